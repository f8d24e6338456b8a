/* Published models by name. A preset is an inline description, so that it can be typed, printed and changed as one. */
#include "model/parts.h"

typedef struct preset { const char *name, *text; } preset;

/* Sources: Radford et al. 2019; Brown et al. 2020, table 2.1 (its 1.3b has 24 heads of 128, which do not make 2048: 16
 * here); Shoeybi et al. 2019; Smith et al. 2022 (MT-NLG); Devlin et al. 2018; Touvron et al. 2023; model cards of
 * Llama 3. Vocabularies are unpadded, and Llama 3 has the 8192 tokens of its pre-training. */
static const preset presets[] = {
    {"gpt2", "layers=12,hidden=768,heads=12,vocab=50257,seq=1024"},
    {"gpt2-medium", "layers=24,hidden=1024,heads=16,vocab=50257,seq=1024"},
    {"gpt2-large", "layers=36,hidden=1280,heads=20,vocab=50257,seq=1024"},
    {"gpt2-xl", "layers=48,hidden=1600,heads=25,vocab=50257,seq=1024"},
    {"gpt3-125m", "layers=12,hidden=768,heads=12,vocab=50257,seq=2048"},
    {"gpt3-350m", "layers=24,hidden=1024,heads=16,vocab=50257,seq=2048"},
    {"gpt3-760m", "layers=24,hidden=1536,heads=16,vocab=50257,seq=2048"},
    {"gpt3-1.3b", "layers=24,hidden=2048,heads=16,vocab=50257,seq=2048"},
    {"gpt3-2.7b", "layers=32,hidden=2560,heads=32,vocab=50257,seq=2048"},
    {"gpt3-6.7b", "layers=32,hidden=4096,heads=32,vocab=50257,seq=2048"},
    {"gpt3-13b", "layers=40,hidden=5120,heads=40,vocab=50257,seq=2048"},
    {"gpt3-175b", "layers=96,hidden=12288,heads=96,vocab=50257,seq=2048"},
    {"megatron-8.3b", "layers=72,hidden=3072,heads=24,vocab=50257,seq=1024"},
    {"turing-nlg-17b", "layers=78,hidden=4256,heads=28,vocab=50257,seq=1024"},
    {"mt-nlg-530b", "layers=105,hidden=20480,heads=128,vocab=50257,seq=2048"},
    {"gpt-1t", "layers=128,hidden=25600,heads=160,vocab=51200,seq=2048"},
    {"bert-base", "layers=12,hidden=768,heads=12,vocab=30522,seq=512,causal=0"},
    {"bert-large", "layers=24,hidden=1024,heads=16,vocab=30522,seq=512,causal=0"},
#define LLAMA ",gated=1,norm=rms,pos=rope,tied=0,"
    {"llama2-7b", "layers=32,hidden=4096,heads=32,ffn=11008" LLAMA "vocab=32000,seq=4096"},
    {"llama2-13b", "layers=40,hidden=5120,heads=40,ffn=13824" LLAMA "vocab=32000,seq=4096"},
    {"llama2-70b", "layers=80,hidden=8192,heads=64,kv_heads=8,ffn=28672" LLAMA "vocab=32000,seq=4096"},
#define LLAMA3 LLAMA "vocab=128256,seq=8192,rope_theta=500000"
    {"llama3-8b", "layers=32,hidden=4096,heads=32,kv_heads=8,ffn=14336" LLAMA3},
    {"llama3-70b", "layers=80,hidden=8192,heads=64,kv_heads=8,ffn=28672" LLAMA3},
    {"llama3-405b", "layers=126,hidden=16384,heads=128,kv_heads=8,ffn=53248" LLAMA3},
#undef LLAMA3
#undef LLAMA
};

const char *dsc_model_preset_text(const char *name)
{
    for (int64_t i = 0; i < DSC_COUNT(presets); i++)
        if (dsc_equal(presets[i].name, name)) return presets[i].text;
    return NULL;
}

const char *const *dsc_model_presets(void)
{
    static const char *names[sizeof presets / sizeof *presets + 1];

    for (int64_t i = 0; i < DSC_COUNT(presets); i++) names[i] = presets[i].name;
    return names;
}
