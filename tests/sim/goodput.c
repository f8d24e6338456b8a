/* What failures cost a run, against numbers by hand, Daly's own, a search, and runs that fail. */
#include "sim/goodput.h"
#include "tests/tap.h"
#include <math.h>

static bool is_near(double value, double wanted, double share) { return fabs(value - wanted) <= share * fabs(wanted); }

static void young_is_a_root(void)
{
    /* sqrt(2 * 50 * 10000) = 1000 */
    CHECK(is_near(dsc_young_interval(50, 10000), 1000, 1e-12), "%g", dsc_young_interval(50, 10000));
    CHECK(is_near(dsc_young_interval(2, 14400), 240, 1e-12), "%g", dsc_young_interval(2, 14400));
}

/* Figures 3 to 5 of his paper: dumps of 5 minutes, failures every 24 h, 6 h and 15 min. */
static void daly_has_his_figures(void)
{
    static const struct { double mtbf, wanted, last_digit; } figures[] = {{1440, 117, 1}, {360, 57, 1}, {15, 9.1, 0.1}};

    for (int64_t i = 0; i < DSC_COUNT(figures); i++)
        CHECK(fabs(dsc_daly_interval(5, figures[i].mtbf) - figures[i].wanted) <= figures[i].last_digit / 2,
              "failures every %g min: %g, his is %g", figures[i].mtbf, dsc_daly_interval(5, figures[i].mtbf),
              figures[i].wanted);
    CHECK(is_near(dsc_daly_interval(40, 15), 15, 1e-12), "a dump over twice the time between failures: %g",
          dsc_daly_interval(40, 15));
}

/* By hand: e^0.1 = 1.10517, e^1.1 - 1 = 2.00417: 900 / (1000 * 1.10517 * 2.00417) = 0.40633. */
static void goodput_is_dalys(void)
{
    CHECK(is_near(dsc_goodput(900, 200, 100, 1000), 0.40633, 2e-5), "%g", dsc_goodput(900, 200, 100, 1000));
    CHECK(is_near(dsc_goodput(100, 0, 0, 1e12), 1, 1e-9), "%g", dsc_goodput(100, 0, 0, 1e12));
    CHECK(dsc_goodput(100, 0, 1e6, 1000) < 1e-300 && dsc_goodput(1, 1e7, 0, 1) <= 0, "what cannot end: %g",
          dsc_goodput(100, 0, 1e6, 1000));
}

static void dalys_interval_is_the_best(void)
{
    for (int i = 0; i < 200; i++) {
        const double mtbf = (double)tap_random_between(1000, 1000000);
        const double save = mtbf * (double)tap_random_between(1, 500) / 1000;
        const double best = dsc_daly_interval(save, mtbf), reached = dsc_goodput(best, save, 0, mtbf);

        for (double factor = 0.3; factor < 3.1; factor += 0.05)
            CHECK(dsc_goodput(factor * best, save, 0, mtbf) <= reached * 1.001, "save %g, mtbf %g: %g at %g, %g at %g",
                  save, mtbf, reached, best, dsc_goodput(factor * best, save, 0, mtbf), factor * best);
    }
}

/* Seconds to the next failure. */
static double draw(double mtbf) { return -mtbf * log((double)tap_random_between(1, 1 << 30) / (double)(1 << 30)); }

/* Share of steps in the time of a run of so many intervals. Restarts fail too. */
static double run(double interval, double save, double restart, double mtbf, int64_t intervals)
{
    double passed = 0, next = draw(mtbf); /* from now on */
    bool is_broken = false;

    for (int64_t done = 0; done < intervals;) {
        const double work = interval + save + (is_broken ? restart : 0);

        if (next < work) {
            passed += next;
            next = draw(mtbf);
            is_broken = true;
            continue;
        }
        passed += work;
        next -= work;
        is_broken = false;
        done++;
    }
    return interval * (double)intervals / passed;
}

static void runs_come_to_it(void)
{
    static const struct { double interval, save, restart, mtbf; } runs[] = {
        {600, 30, 300, 11000}, {100, 20, 50, 500}, {1000, 10, 0, 1000}};

    for (int64_t i = 0; i < DSC_COUNT(runs); i++) {
        const double measured =
            run(runs[i].interval, runs[i].save, runs[i].restart, runs[i].mtbf, 200000);
        const double wanted = dsc_goodput(runs[i].interval, runs[i].save, runs[i].restart, runs[i].mtbf);

        CHECK(is_near(measured, wanted, 0.02), "row %lld: %g of runs, %g by the formula", (long long)i, measured,
              wanted);
    }
}

static void steps_are_whole(void)
{
    /* Daly's of 50 and 10000 is 1000 (1 + 0.05 / 3 + 0.0025 / 9) - 50 = 966.9 */
    CHECK(dsc_interval_steps(100, 50, 10000, 1000) == 10, "%lld",
          (long long)dsc_interval_steps(100, 50, 10000, 1000));
    CHECK(dsc_interval_steps(5000, 50, 10000, 1000) == 1, "a step longer than the interval");
    CHECK(dsc_interval_steps(1, 50, 10000, 7) == 7, "a run shorter than the interval");
}

static const tap_case cases[] = {
    {"Young's interval is sqrt(2 C M)", young_is_a_root},
    {"Daly's interval has the figures of his paper", daly_has_his_figures},
    {"goodput is what Daly's formula gives by hand", goodput_is_dalys},
    {"no interval from a third to three times Daly's is better by 0.1 %", dalys_interval_is_the_best},
    {"runs that fail at random come to that goodput", runs_come_to_it},
    {"an interval is whole steps, within the run", steps_are_whole},
};

int main(void) { return tap_run(cases, DSC_COUNT(cases), NULL); }
