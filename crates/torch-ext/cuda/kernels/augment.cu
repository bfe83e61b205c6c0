// Batches from images that live on the device as bytes: pad and crop, mirror, normalise, cutout, one block an image. The draws
// and their order are crates/data/src/writer.rs's, so the images are the same.
#include "kernels.h"
#include "random.h"

namespace flatmin::FLATMIN_SIDE {
namespace {

struct Span {
  int start, end;

  FLATMIN_BOTH bool has(int place) const { return place >= start && place < end; }
};

// A side of the square about a random pixel, cut off at the border.
FLATMIN_BOTH Span draw_span(RandomStream& stream, int side, int size) {
  const int centre = stream.below(side);
  const int start = centre - size / 2, end = centre + (size + 1) / 2;
  return {start > 0 ? start : 0, end < side ? end : side};
}

template <class Stored>
struct Augment {
  flatmin_images images;
  flatmin_augment options;

  struct Shared {
    int items;
    int64_t index;  // of the image in the set; -1: there is none
    int dy, dx;     // out(y, x) = image(y + dy, x + dx)
    bool flip;
    Span rows, columns;  // of the cutout
    int64_t place;       // in the batch
  };

  FLATMIN_BOTH void prepare(int64_t block, Shared& shared) const {
    shared.items = images.height * images.width;
    shared.place = block;
    const int64_t position = options.feed->next + block;
    shared.index = position >= 0 && position < options.order_len ? options.order[position] : -1;
    if (shared.index >= images.count) shared.index = -1;
    options.labels[block] = shared.index < 0 ? -1 : images.labels[shared.index];
    if (shared.index < 0) return;
    RandomStream stream(options.seed, kAugment, options.feed->epoch, static_cast<uint64_t>(shared.index));
    shared.dy = shift(stream);
    shared.dx = shift(stream);
    shared.flip = options.flip != 0 && stream.below(2) == 1;
    shared.rows = shared.columns = {0, 0};
    if (options.cutout == 0) return;
    shared.rows = draw_span(stream, images.height, options.cutout);
    shared.columns = draw_span(stream, images.width, options.cutout);
  }

  FLATMIN_BOTH int shift(RandomStream& stream) const {
    return options.padding == 0 ? 0 : stream.below(2 * options.padding + 1) - options.padding;
  }

  FLATMIN_BOTH void item(const Shared& shared, int pixel) const {
    const int y = pixel / images.width, x = pixel % images.width;
    const int64_t pixels = static_cast<int64_t>(images.height) * images.width;
    Stored* out = static_cast<Stored*>(options.out) + (shared.place * pixels + pixel) * images.channels;
    const bool blank = shared.index < 0 || (shared.rows.has(y) && shared.columns.has(x));
    const int row = y + shared.dy, column = (shared.flip ? images.width - 1 - x : x) + shared.dx;
    const bool inside = row >= 0 && row < images.height && column >= 0 && column < images.width;
    const uint8_t* from = images.pixels + (shared.index * pixels + row * images.width + column) * images.channels;
    for (int channel = 0; channel < images.channels; ++channel) {
      float value = 0;
      if (!blank) value = inside ? from[channel] * images.gain[channel] + images.bias[channel] : images.bias[channel];
      out[channel] = store<Stored>(static_cast<Real<Stored>>(value));
    }
  }

  FLATMIN_BOTH int last_items() const { return options.advance != 0 ? 1 : 0; }
  FLATMIN_BOTH void last(int) const { options.feed->next += options.batch; }
};

}  // namespace

int augment(void* stream, const flatmin_images* images, const flatmin_augment* options, const flatmin_scratch* scratch) {
  if (images->channels < 1 || images->channels > FLATMIN_CHANNELS) return fail("images have 1 to 4 channels");
  return with_stored(options->number, [&](auto stored) {
    using Stored = decltype(stored);
    return map_then(stream, options->batch, scratch->counter, Augment<Stored>{*images, *options});
  });
}

}  // namespace flatmin::FLATMIN_SIDE
