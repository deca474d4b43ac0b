// 3x3 convolution with stride 1 without im2col: for few channels, where building the column matrix takes as long as the
// product with it.
//
// The images of a chunk, or rows of one, are laid out channel by channel as a strip of padded rows, one after the other:
// the padding behind a row serves as that before the next, and so between images. An output pixel at position p of the
// strip reads position p + offset for each tap, so that a run of vectors needs no look at rows. What is computed between
// the rows is dropped.

#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <vector>

#include "im2col.h"

namespace {

// A register block: accumulators for some channels times some vectors, or times the taps of a kernel row.
#ifdef __AVX512F__
constexpr int CHANNEL_BLOCK = 8;
#else
constexpr int CHANNEL_BLOCK = 4;
#endif
constexpr int RUN = 3, SIDE = 3, TAPS = SIDE * SIDE;
constexpr std::int64_t STRIP_PIXELS = 2048;  // of a chunk: some in each run, and all in the cache

// So that the compiler does not load it again for each use.
template <typename Value>
inline void keep_in_register([[maybe_unused]] Value& value) {
#ifdef __x86_64__
  asm("" : "+v"(value));
#endif
}

// Zeros, aligned so that no load of a whole vector crosses a cache line.
template <typename T>
class Aligned {
 public:
  explicit Aligned(std::int64_t size) : values(size + LINE<T>) {}

  T* data() {
    const auto beyond = reinterpret_cast<std::uintptr_t>(values.data()) % LINE_BYTES;
    return values.data() + (beyond ? (LINE_BYTES - beyond) / sizeof(T) : 0);
  }
  void clear() { std::fill(values.begin(), values.end(), T(0)); }

 private:
  std::vector<T> values;
};

// Where things are in the strip of a chunk.
template <typename T>
struct StripLayout {
  static constexpr std::int64_t SLACK = (RUN + 1) * WIDTH<T>;  // what a run may read or write behind the end

  StripLayout(const Geometry& g, const Tiling& tiling)
      : pitch(g.width + g.pad_w),
        image_rows(tiling.images > 1 ? g.height + g.pad_h : 0),
        most_rows((tiling.images - 1) * image_rows + tiling.rows),
        in_size((most_rows + SIDE - 1) * pitch + g.pad_w + SLACK),
        out_size((most_rows * pitch + SLACK + LINE<T> - 1) / LINE<T> * LINE<T>) {}

  std::int64_t length(const Chunk<T>& chunk) const {
    return ((chunk.images - 1) * image_rows + chunk.last_row - chunk.first_row) * pitch;
  }

  // The chunk's part of x [batch, C, H, W] into `to` [C, in_size], which is zero where there is padding.
  void load_input(const T* x, const Geometry& g, const Chunk<T>& chunk, T* to) const {
    const std::int64_t first = chunk.first_row - g.pad_h;
    for (std::int64_t c = 0; c < g.channels; ++c, to += in_size)
      for (std::int64_t i = 0; i < chunk.images; ++i) {
        const T* image = x + ((chunk.image + i) * g.channels + c) * g.in_pixels();
        T* rows = to + i * image_rows * pitch + g.pad_w;
        for (std::int64_t h = first; h < chunk.last_row - g.pad_h + SIDE - 1; ++h) {
          T* row = rows + (h - first) * pitch;
          if (0 <= h && h < g.height)
            std::copy_n(image + h * g.width, g.width, row);
          else
            std::fill_n(row, g.width, T(0));
        }
      }
  }

  // Calls `copy(part of y [batch, channels, out_h, out_w], part of strip, length)` for the rows of `count` channels,
  // of strips out_size apart.
  template <typename Y, typename Copy>
  void for_rows(Y* y, T* strip, std::int64_t first, std::int64_t count, const Geometry& g, const Chunk<T>& chunk,
                const Copy& copy) const {
    for (std::int64_t k = 0; k < count; ++k, strip += out_size)
      for (std::int64_t i = 0; i < chunk.images; ++i) {
        Y* plane = y + ((chunk.image + i) * g.out_channels + first + k) * g.out_pixels() + chunk.first_pixel();
        for (std::int64_t r = 0; r < chunk.last_row - chunk.first_row; ++r)
          copy(plane + r * chunk.out_w, strip + (i * image_rows + r) * pitch, chunk.out_w);
      }
  }

  const std::int64_t pitch, image_rows, most_rows, in_size, out_size;
};

// weight [K, C, 3, 3] as [K / CHANNEL_BLOCK, C, 9, CHANNEL_BLOCK], with zeros for the channels that are missing.
template <typename T>
std::vector<T> in_channel_blocks(const T* weight, const Geometry& g) {
  const std::int64_t blocks = (g.out_channels + CHANNEL_BLOCK - 1) / CHANNEL_BLOCK, size = g.patch_size();
  std::vector<T> packed(blocks * size * CHANNEL_BLOCK);
  for (std::int64_t k = 0; k < g.out_channels; ++k)
    for (std::int64_t i = 0; i < size; ++i)
      packed[(k / CHANNEL_BLOCK * size + i) * CHANNEL_BLOCK + k % CHANNEL_BLOCK] = weight[k * size + i];
  return packed;
}

// RUN vectors of CHANNEL_BLOCK output channels.
template <typename T>
inline void direct_run(const T* x, std::int64_t in_size, std::int64_t pitch, std::int64_t channels, const T* weight,
                       T* y, std::int64_t out_size) {
  Vector<T> sums[CHANNEL_BLOCK][RUN] = {};
  for (std::int64_t c = 0; c < channels; ++c, x += in_size)
    for (int row = 0; row < SIDE; ++row)
#pragma GCC unroll 3
      for (int tap = 0; tap < SIDE; ++tap, weight += CHANNEL_BLOCK) {
        const T* from = x + row * pitch + tap;
        Vector<T> inputs[RUN];
#pragma GCC unroll 3
        for (int v = 0; v < RUN; ++v) inputs[v] = load(from + v * WIDTH<T>);
#pragma GCC unroll 8
        for (int k = 0; k < CHANNEL_BLOCK; ++k)
#pragma GCC unroll 3
          for (int v = 0; v < RUN; ++v) sums[k][v] += inputs[v] * weight[k];
      }
#pragma GCC unroll 8
  for (int k = 0; k < CHANNEL_BLOCK; ++k)
#pragma GCC unroll 3
    for (int v = 0; v < RUN; ++v) store<T>(y + k * out_size + v * WIDTH<T>, sums[k][v]);
}

// As `convolve`.
template <typename T>
void convolve_direct(const T* x, const T* weight, T* y, std::int64_t batch, const Geometry& g, int threads) {
  const std::vector<T> packed = in_channel_blocks(weight, g);
  const Tiling tiling(batch, g, STRIP_PIXELS);
  const StripLayout<T> strip(g, tiling);
#pragma omp parallel num_threads(threads)
  {
    Aligned<T> in(g.channels * strip.in_size), out(CHANNEL_BLOCK * strip.out_size);
#pragma omp for schedule(static)
    for (std::int64_t c = 0; c < tiling.groups * tiling.pieces; ++c) {
      const Chunk<T> chunk = tiling.chunk<T>(c / tiling.pieces, c % tiling.pieces);
      strip.load_input(x, g, chunk, in.data());
      for (std::int64_t first = 0; first < g.out_channels; first += CHANNEL_BLOCK) {
        const T* weights = &packed[first * g.patch_size()];
        for (std::int64_t p = 0; p < strip.length(chunk); p += RUN * WIDTH<T>)
          direct_run<T>(in.data() + p, strip.in_size, strip.pitch, g.channels, weights, out.data() + p, strip.out_size);
        const std::int64_t count = std::min<std::int64_t>(CHANNEL_BLOCK, g.out_channels - first);
        strip.for_rows(y, out.data(), first, count, g, chunk,
                       [](T* of_y, const T* ours, std::int64_t n) { std::copy_n(ours, n, of_y); });
      }
    }
  }
}

// Adds a strip's part to sums [CHANNEL_BLOCK, C, 9], vectors whose lanes are to be added up: for one input channel and
// kernel row, channels `stride` apart.
template <typename T>
inline void direct_weight_row(const T* grads, std::int64_t out_size, const T* x, std::int64_t length, T* sums,
                              std::int64_t stride) {
  Vector<T> own[CHANNEL_BLOCK][SIDE];
#pragma GCC unroll 8
  for (int k = 0; k < CHANNEL_BLOCK; ++k)
#pragma GCC unroll 3
    for (int tap = 0; tap < SIDE; ++tap) own[k][tap] = load(sums + k * stride + tap * WIDTH<T>);
  for (std::int64_t p = 0; p < length; p += WIDTH<T>) {
    Vector<T> inputs[SIDE];
#pragma GCC unroll 3
    for (int tap = 0; tap < SIDE; ++tap) inputs[tap] = load(x + p + tap);
#pragma GCC unroll 8
    for (int k = 0; k < CHANNEL_BLOCK; ++k) {
      Vector<T> grad = load(grads + k * out_size + p);
      keep_in_register(grad);
#pragma GCC unroll 3
      for (int tap = 0; tap < SIDE; ++tap) own[k][tap] += grad * inputs[tap];
    }
  }
#pragma GCC unroll 8
  for (int k = 0; k < CHANNEL_BLOCK; ++k)
#pragma GCC unroll 3
    for (int tap = 0; tap < SIDE; ++tap) store<T>(sums + k * stride + tap * WIDTH<T>, own[k][tap]);
}

// Adds a chunk's part to sums. `in`, `out`: strips of the thread's own; `out` is zero where there is no pixel.
template <typename T>
void direct_weight(const T* x, const T* grad_output, T* sums, const Geometry& g, const Chunk<T>& chunk,
                   const StripLayout<T>& strip, T* in, T* out) {
  const std::int64_t length = strip.length(chunk), stride = g.patch_size() * WIDTH<T>;
  strip.load_input(x, g, chunk, in);
  for (std::int64_t first = 0; first < g.out_channels; first += CHANNEL_BLOCK) {
    const std::int64_t count = std::min<std::int64_t>(CHANNEL_BLOCK, g.out_channels - first);
    strip.for_rows(grad_output, out, first, count, g, chunk,
                   [](const T* of_y, T* ours, std::int64_t n) { std::copy_n(of_y, n, ours); });
    for (std::int64_t c = 0; c < g.channels; ++c)
      for (int row = 0; row < SIDE; ++row)
        direct_weight_row<T>(out, strip.out_size, in + c * strip.in_size + row * strip.pitch, length,
                             sums + first * stride + (c * TAPS + row * SIDE) * WIDTH<T>, stride);
  }
}

// As `backward_weight`.
template <typename T>
void backward_weight_direct(const T* x, const T* grad_output, T* grad_weight, std::int64_t batch, const Geometry& g,
                            int threads) {
  const Tiling tiling(batch, g, STRIP_PIXELS);
  const StripLayout<T> strip(g, tiling);
  const std::int64_t blocks = (g.out_channels + CHANNEL_BLOCK - 1) / CHANNEL_BLOCK, size = g.out_channels * g.patch_size();
  const std::int64_t each = blocks * CHANNEL_BLOCK * g.patch_size() * WIDTH<T>;
  Aligned<T> sums(threads * each);
#pragma omp parallel num_threads(threads)
  {
    Aligned<T> in(g.channels * strip.in_size), out(CHANNEL_BLOCK * strip.out_size);
    std::int64_t length = 0;
#pragma omp for schedule(static)
    for (std::int64_t c = 0; c < tiling.groups * tiling.pieces; ++c) {
      const Chunk<T> chunk = tiling.chunk<T>(c / tiling.pieces, c % tiling.pieces);
      if (strip.length(chunk) < length) out.clear();  // a longer one was there
      length = strip.length(chunk);
      direct_weight<T>(x, grad_output, sums.data() + omp_get_thread_num() * each, g, chunk, strip, in.data(),
                       out.data());
    }
  }
  std::fill_n(grad_weight, size, T(0));
  for (int thread = 0; thread < threads; ++thread)
    for (std::int64_t i = 0; i < size * WIDTH<T>; ++i) grad_weight[i / WIDTH<T>] += sums.data()[thread * each + i];
}

}  // namespace
