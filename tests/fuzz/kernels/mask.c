/* Every variant of mask.h against a loop over bytes, into another buffer and in place, at any alignment.
 *
 * Input: alignment of the source and offset of the key, alignment of the target, the key, the payload. */

#include "place.h"

#include "mask.h"

enum { HEAD = 6 };

static place source_place, target_place;

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t input_size)
{
    if (input_size < HEAD || input_size - HEAD > LONGEST)
        return 0;
    const uint8_t *key = input + 2, *payload = input + HEAD;
    size_t size = input_size - HEAD, offset = input[0] >> 6;
    uint8_t expected[LONGEST], seen = 0;
    for (size_t i = 0; i < size; i++) {
        expected[i] = payload[i] ^ key[(offset + i) % 4];
        seen |= expected[i];
    }

    crest_unmask_variant variants[CREST_UNMASK_VARIANTS + 1];
    size_t count = crest_unmask_variants(variants);
    variants[count++] = (crest_unmask_variant){"dispatch", crest_unmask};
    crest_mask_init();
    for (crest_unmask_variant *variant = variants; variant < variants + count; variant++) {
        uint8_t *source = open_place(&source_place, input[0], size);
        uint8_t *target = open_place(&target_place, input[1], size);
        memcpy(source, payload, size);
        expect(variant->call(target, source, size, key, offset) == seen, "wrong OR", variant->name);
        expect(memcmp(target, expected, size) == 0 && intact(target), "wrong bytes", variant->name);
        expect(memcmp(source, payload, size) == 0, "the source was written", variant->name);
        expect(variant->call(source, source, size, key, offset) == seen, "wrong OR in place", variant->name);
        expect(memcmp(source, expected, size) == 0 && intact(source), "wrong bytes in place", variant->name);
    }
    return 0;
}
