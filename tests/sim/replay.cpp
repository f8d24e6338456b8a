extern "C" {
#include "tests/sim/replay.h"
}
#include <simgrid/s4u.hpp>
#include <set>
#include <string>
#include <sys/wait.h>
#include <unistd.h>
#include <utility>
#include <vector>

namespace s4u = simgrid::s4u;

/* Flows share links max-min fairly, and nothing of TCP is left: neither factors on rates and latencies, nor
 * acknowledgements that load the way back, nor a window, nor weights by latency (replay_kind). */
static std::vector<std::string> configuration()
{
    return {"replay",
            "--cfg=network/model:CM02",
            "--cfg=network/latency-factor:1",
            "--cfg=network/bandwidth-factor:1",
            "--cfg=network/crosstraffic:0",
            "--cfg=network/TCP-gamma:0",
            "--cfg=network/weight-S:0",
            "--log=root.thresh:critical"};
}

/* A host has a twin, between whom and other twins there is latency alone. */
struct Hosts {
    std::vector<s4u::Host *> ends, twins;
};

static Hosts make_hosts(const replay *r, s4u::NetZone *zone)
{
    Hosts hosts;

    for (int i = 0; i < r->hosts; i++) {
        hosts.ends.push_back(zone->create_host("end" + std::to_string(i), 1e9));
        hosts.twins.push_back(zone->create_host("twin" + std::to_string(i), 1e9));
    }
    return hosts;
}

static void make_routes(const replay *r, s4u::NetZone *zone, const Hosts &hosts)
{
    std::vector<s4u::Link *> links;

    for (int64_t i = 0; i < r->link_count; i++)
        links.push_back(zone->create_link("link" + std::to_string(i), r->links[i].bytes_per_s)->seal());
    for (int64_t i = 0; i < r->route_count; i++) {
        const replay_route &route = r->routes[i];
        s4u::Link *latency = zone->create_link("latency" + std::to_string(i), 1e18)->set_latency(route.latency_s);
        std::vector<s4u::LinkInRoute> way;

        for (int64_t k = 0; k < route.count; k++) way.emplace_back(links[r->hops[route.first + k]]);
        zone->add_route(hosts.ends[route.from]->get_netpoint(), hosts.ends[route.to]->get_netpoint(), nullptr, nullptr,
                        way, false);
        zone->add_route(hosts.twins[route.from]->get_netpoint(), hosts.twins[route.to]->get_netpoint(), nullptr,
                        nullptr, {s4u::LinkInRoute(latency->seal())}, false);
    }
}

/* One of the two. */
struct Task {
    s4u::ExecPtr exec;
    s4u::CommPtr comm;

    s4u::ActivityPtr activity() const { return exec ? s4u::ActivityPtr(exec) : s4u::ActivityPtr(comm); }
    void precede(const Task &later) const
    {
        if (exec) exec->add_successor(later.activity());
        else comm->add_successor(later.activity());
    }
    void start() const
    {
        if (exec) exec->vetoable_start();
        else comm->vetoable_start();
    }
};

static Task make_task(const replay_task &task, const Hosts &hosts)
{
    switch (task.kind) {
    case REPLAY_COMPUTE:
        return {s4u::Exec::init()->set_host(hosts.ends[task.from])->set_flops_amount(task.amount), nullptr};
    case REPLAY_WAIT:
        return {nullptr, s4u::Comm::sendto_init(hosts.twins[task.from], hosts.twins[task.to])->set_payload_size(0)};
    default:
        return {nullptr, s4u::Comm::sendto_init(hosts.ends[task.from], hosts.ends[task.to])
                             ->set_payload_size(static_cast<uint64_t>(task.amount))};
    }
}

static double simulate(const replay *r)
{
    std::vector<std::string> words = configuration();
    std::vector<char *> argv;
    int argc = static_cast<int>(words.size());

    for (std::string &word : words) argv.push_back(word.data());
    argv.push_back(nullptr);
    s4u::Engine engine(&argc, argv.data());
    s4u::NetZone *zone = s4u::create_full_zone("zone");
    Hosts hosts = make_hosts(r, zone);
    std::vector<Task> tasks;
    std::set<std::pair<int64_t, int64_t>> ordered; /* theirs knows no order twice */

    make_routes(r, zone, hosts);
    zone->seal();
    for (int64_t i = 0; i < r->task_count; i++) tasks.push_back(make_task(r->tasks[i], hosts));
    for (int64_t i = 0; i < r->order_count; i++)
        if (ordered.emplace(r->orders[i].after, r->orders[i].task).second)
            tasks[r->orders[i].after].precede(tasks[r->orders[i].task]);
    for (const Task &task : tasks) task.start();
    engine.run();
    for (const Task &task : tasks)
        if (task.activity()->get_state() != s4u::Activity::State::FINISHED) return -1;
    return s4u::Engine::get_clock();
}

double replay_run(const replay *r)
{
    double seconds = -1;
    int ends[2], status = 0;
    pid_t child;

    if (pipe(ends) != 0) return -1;
    child = fork();
    if (child == 0) {
        seconds = simulate(r);
        _exit(write(ends[1], &seconds, sizeof seconds) == sizeof seconds ? 0 : 1);
    }
    close(ends[1]);
    if (child < 0 || read(ends[0], &seconds, sizeof seconds) != sizeof seconds) seconds = -1;
    close(ends[0]);
    if (child > 0) waitpid(child, &status, 0);
    return status == 0 ? seconds : -1;
}
