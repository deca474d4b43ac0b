// Convolution by im2col and GEMM. Paddle's own CPU kernel does the same one image at a time, with im2col on one thread;
// here each thread takes images of its own, or rows of them, and its column matrix stays in its cache.
//
// With col [patch_size = C * kernel_h * kernel_w, out_pixels], the im2col of a part of the input,
//   output = weight col,  grad_weight = sum of grad_output col^T,
// and with stride 1 grad_input is a convolution too: of grad_output, with the flipped kernel.

#pragma once

#include <omp.h>

#include <algorithm>
#include <cstdint>
#include <memory>
#include <vector>

#include "lanes.h"

namespace {

// What cblas.h declares: row-major C = alpha A B + beta C with A [m, k], B [k, n] or, transposed, [n, k].
enum { ROW_MAJOR = 101, NO_TRANS = 111, TRANS = 112 };
template <typename T>
using Gemm = void (*)(int, int, int, int, int, int, T, const T*, int, const T*, int, T, T*, int);
template <typename T>
Gemm<T> gemm = nullptr;
int (*set_gemm_threads)(int) = nullptr;  // of the calling thread; returns the previous number, 0 is MKL's default

struct Geometry {
  std::int64_t channels, height, width, out_channels, kernel_h, kernel_w, stride_h, stride_w, pad_h, pad_w;

  std::int64_t out_h() const { return (height + 2 * pad_h - kernel_h) / stride_h + 1; }
  std::int64_t out_w() const { return (width + 2 * pad_w - kernel_w) / stride_w + 1; }
  std::int64_t out_pixels() const { return out_h() * out_w(); }
  std::int64_t patch_size() const { return channels * kernel_h * kernel_w; }
};

// A padded image whose columns are grouped by their remainder modulo stride_w, so that what one tap of the kernel reads
// for an output row is contiguous.
template <typename T>
class Padded {
 public:
  explicit Padded(const Geometry& g, T padding = 0)
      : g(g),
        rows(g.height + 2 * g.pad_h),
        columns((g.width + 2 * g.pad_w + g.stride_w - 1) / g.stride_w),
        values(g.channels * g.stride_w * rows * columns + WIDTH<T> * g.stride_w, padding) {}

  void load_image(const T* image) {
    for (std::int64_t c = 0; c < g.channels; ++c)
      for (std::int64_t h = 0; h < g.height; ++h, image += g.width)
        for (std::int64_t w = 0; w < std::min(g.stride_w, g.width); ++w) {
          T* to = &values[row(c, (w + g.pad_w) % g.stride_w, h + g.pad_h) + (w + g.pad_w) / g.stride_w];
          const T *from = image + w, *end = image + g.width;
          if (g.stride_w == 1)
            std::copy(from, end, to);
          else if (g.stride_w == 2)  // known, so that the compiler can do several at a time
            for (; from < end; from += 2) *to++ = *from;
          else
            for (; from < end; from += g.stride_w) *to++ = *from;
        }
  }

  // What a tap of the kernel reads for an output row, contiguous, with at least a vector behind it.
  const T* tap_row(std::int64_t out_row, std::int64_t kernel_row, std::int64_t tap, std::int64_t channel = 0) const {
    return &values[row(channel, tap % g.stride_w, out_row * g.stride_h + kernel_row) + tap / g.stride_w];
  }

  // From what a tap reads for an output row to what it reads for the next.
  std::int64_t row_step() const { return g.stride_h * columns; }

  // im2col of output rows [first, last) into a matrix with leading dimension `stride`. Writes up to a vector behind
  // them.
  void im2col(std::int64_t first, std::int64_t last, T* to, std::int64_t stride) const {
    const std::int64_t out_w = g.out_w();
    for (std::int64_t c = 0; c < g.channels; ++c)
      for (std::int64_t y = 0; y < g.kernel_h; ++y)
        for (std::int64_t x = 0; x < g.kernel_w; ++x, to += stride) {
          const T* from = tap_row(first, y, x, c);
          T* out = to;
          for (std::int64_t r = first; r < last; ++r, from += row_step(), out += out_w)
            for (std::int64_t i = 0; i < out_w; i += WIDTH<T>) store<T>(out + i, load(from + i));
        }
  }

 private:
  std::int64_t row(std::int64_t channel, std::int64_t phase, std::int64_t h) const {
    return ((channel * g.stride_w + phase) * rows + h) * columns;
  }

  const Geometry g;
  const std::int64_t rows, columns;
  std::vector<T> values;
};

// Some images, or some rows of one, and their column matrix [patch_size, pixels of all], leading dimension `stride`.
template <typename T>
struct Chunk {
  std::int64_t image, images, first_pixel, pixels, stride;
  const T* col;

  std::int64_t size() const { return images * pixels; }
};

// Calls `work(thread, chunk)` for chunks of x [batch, C, H, W], shared among the threads.
template <typename T, typename Work>
void for_chunks(const T* x, std::int64_t batch, const Geometry& g, int threads, const Work& work) {
  constexpr std::int64_t PIXELS = 256;  // of a chunk: enough for a fast GEMM
  const std::int64_t out_h = g.out_h(), out_w = g.out_w();
  const std::int64_t images = std::min(std::max<std::int64_t>(PIXELS / g.out_pixels(), 1), batch);
  const std::int64_t rows = images > 1 ? out_h : std::min(std::max<std::int64_t>(PIXELS / out_w, 1), out_h);
  const std::int64_t pieces = (out_h + rows - 1) / rows, chunks = (batch + images - 1) / images * pieces;
  const std::int64_t stride = images * rows * out_w + WIDTH<T>;
#pragma omp parallel num_threads(threads)
  {
    const int usual = set_gemm_threads(1);
    Padded<T> padded(g);
    const std::unique_ptr<T[]> col(new T[g.patch_size() * stride]);
    std::int64_t loaded = -1;
#pragma omp for schedule(static)
    for (std::int64_t c = 0; c < chunks; ++c) {
      const std::int64_t image = c / pieces * images, count = std::min(images, batch - image);
      const std::int64_t first = c % pieces * rows, last = std::min(first + rows, out_h);
      for (std::int64_t i = 0; i < count; ++i) {
        if (loaded != image + i) padded.load_image(x + (image + i) * g.channels * g.height * g.width);
        loaded = image + i;
        padded.im2col(first, last, &col[i * g.out_pixels()], stride);
      }
      work(omp_get_thread_num(), Chunk<T>{image, count, first * out_w, (last - first) * out_w, stride, &col[0]});
    }
    set_gemm_threads(usual);
  }
}

// A chunk's part of y [batch, out_channels, out_pixels] as a matrix with leading dimension `stride`: in place for one
// image, a packed copy for several.
template <typename T>
class OutputTile {
 public:
  OutputTile(T* y, const Chunk<T>& chunk, const Geometry& g) : y(y), chunk(chunk), g(g) {
    if (chunk.images > 1) packed.resize(g.out_channels * chunk.size());
  }

  T* matrix() {
    return chunk.images > 1 ? packed.data() : y + chunk.image * g.out_channels * g.out_pixels() + chunk.first_pixel;
  }
  std::int64_t stride() const { return chunk.images > 1 ? chunk.size() : g.out_pixels(); }
  void gather() {
    each([](T* of_y, T* ours, std::int64_t n) { std::copy_n(of_y, n, ours); });
  }
  void scatter() {
    each([](T* of_y, T* ours, std::int64_t n) { std::copy_n(ours, n, of_y); });
  }

 private:
  template <typename Copy>
  void each(const Copy& copy) {
    T* ours = packed.data();
    for (std::int64_t o = 0; o < (chunk.images > 1 ? g.out_channels : 0); ++o)
      for (std::int64_t i = 0; i < chunk.images; ++i, ours += chunk.pixels)
        copy(y + ((chunk.image + i) * g.out_channels + o) * chunk.pixels, ours, chunk.pixels);
  }

  T* y;
  const Chunk<T>& chunk;
  const Geometry& g;
  std::vector<T> packed;
};

// y [batch, out_channels, out_h, out_w] of x [batch, C, H, W] and weight [out_channels, patch_size].
template <typename T>
void convolve(const T* x, const T* weight, T* y, std::int64_t batch, const Geometry& g, int threads) {
  for_chunks<T>(x, batch, g, threads, [&](int, const Chunk<T>& chunk) {
    OutputTile<T> tile(y, chunk, g);
    gemm<T>(ROW_MAJOR, NO_TRANS, NO_TRANS, g.out_channels, chunk.size(), g.patch_size(), 1, weight, g.patch_size(),
            chunk.col, chunk.stride, 0, tile.matrix(), tile.stride());
    tile.scatter();
  });
}

// grad_weight: a partial sum for each thread, then their reduction.
template <typename T>
void backward_weight(const T* x, const T* grad_output, T* grad_weight, std::int64_t batch, const Geometry& g,
                     int threads) {
  const std::int64_t size = g.out_channels * g.patch_size();
  std::vector<T> sums(threads * size);
  for_chunks<T>(x, batch, g, threads, [&](int thread, const Chunk<T>& chunk) {
    OutputTile<T> tile(const_cast<T*>(grad_output), chunk, g);
    tile.gather();
    gemm<T>(ROW_MAJOR, NO_TRANS, TRANS, g.out_channels, g.patch_size(), chunk.size(), 1, tile.matrix(), tile.stride(),
            chunk.col, chunk.stride, 1, &sums[thread * size], g.patch_size());
  });
  std::copy_n(sums.data(), size, grad_weight);
  for (int thread = 1; thread < threads; ++thread)
    for (std::int64_t i = 0; i < size; ++i) grad_weight[i] += sums[thread * size + i];
}

// grad_input, with stride 1.
template <typename T>
void backward_input(const T* grad_output, const T* weight, T* grad_input, std::int64_t batch, const Geometry& g,
                    int threads) {
  const std::int64_t area = g.kernel_h * g.kernel_w;
  std::vector<T> flipped(g.out_channels * g.patch_size());
  for (std::int64_t o = 0; o < g.out_channels; ++o)
    for (std::int64_t c = 0; c < g.channels; ++c)
      std::reverse_copy(weight + (o * g.channels + c) * area, weight + (o * g.channels + c + 1) * area,
                        &flipped[(c * g.out_channels + o) * area]);
  const Geometry back{
      g.out_channels,          g.out_h(), g.out_w(), g.channels, g.kernel_h, g.kernel_w, 1, 1, g.kernel_h - 1 - g.pad_h,
      g.kernel_w - 1 - g.pad_w};
  convolve<T>(grad_output, flipped.data(), grad_input, batch, back, threads);
}

}  // namespace
