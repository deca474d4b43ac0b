// Convolution as products of matrices. Paddle's own CPU kernel does as much an image at a time, and builds the matrices
// on one thread; here each thread does images of its own, or rows of them, with matrices that stay in its cache.
//
// A thread unrolls its part of x into a matrix U [taps = C * kernel_h * kernel_w, places], and
//   y = W U,  gradient of W = sum of g U^T,
// and with stride 1 the gradient of x is a convolution too: of g, with the kernel turned round.

#pragma once

#include <omp.h>

#include <algorithm>
#include <cstdint>
#include <memory>
#include <vector>

#include "lanes.h"

namespace {

// What cblas.h declares: row-major C = alpha A B + beta C with A [m, k], B [k, n] or, turned, [n, k].
enum { ROW_MAJOR = 101, AS_IT_IS = 111, TURNED = 112 };
template <typename T>
using Gemm = void (*)(int, int, int, int, int, int, T, const T*, int, const T*, int, T, T*, int);
template <typename T>
Gemm<T> gemm = nullptr;
int (*set_gemm_threads)(int) = nullptr;  // of the calling thread; returns what it was, and 0 is the usual

struct Geometry {
  std::int64_t channels, height, width, outputs, kernel_h, kernel_w, stride_h, stride_w, pad_h, pad_w;

  std::int64_t out_h() const { return (height + 2 * pad_h - kernel_h) / stride_h + 1; }
  std::int64_t out_w() const { return (width + 2 * pad_w - kernel_w) / stride_w + 1; }
  std::int64_t places() const { return out_h() * out_w(); }
  std::int64_t taps() const { return channels * kernel_h * kernel_w; }
};

// An image with its padding; its columns sorted by what stride_w leaves of them, so that what a tap of the kernel
// meets in a row lies side by side.
template <typename T>
class Padded {
 public:
  explicit Padded(const Geometry& g, T padding = 0)
      : g(g),
        rows(g.height + 2 * g.pad_h),
        columns((g.width + 2 * g.pad_w + g.stride_w - 1) / g.stride_w),
        values(g.channels * g.stride_w * rows * columns + WIDTH<T> * g.stride_w, padding) {}

  void take(const T* image) {
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

  // What a tap of the kernel meets for an output row, side by side, and at least a vector beyond.
  const T* met(std::int64_t out_row, std::int64_t kernel_row, std::int64_t tap, std::int64_t channel = 0) const {
    return &values[row(channel, tap % g.stride_w, out_row * g.stride_h + kernel_row) + tap / g.stride_w];
  }

  // From what a tap meets for an output row to what it meets for the next.
  std::int64_t row_step() const { return g.stride_h * columns; }

  // Output rows [first, last) into a matrix with `stride` numbers a row. Writes up to a vector beyond them.
  void unroll(std::int64_t first, std::int64_t last, T* to, std::int64_t stride) const {
    const std::int64_t out_w = g.out_w();
    for (std::int64_t c = 0; c < g.channels; ++c)
      for (std::int64_t y = 0; y < g.kernel_h; ++y)
        for (std::int64_t x = 0; x < g.kernel_w; ++x, to += stride) {
          const T* from = met(first, y, x, c);
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

// Some images, or some rows of one, and their matrix U [taps, places of all], `stride` numbers a row.
template <typename T>
struct Chunk {
  std::int64_t image, images, place, places, stride;
  const T* unrolled;

  std::int64_t size() const { return images * places; }
};

// Calls `work(thread, chunk)` for chunks of x [batch, C, H, W], shared among the threads.
template <typename T, typename Work>
void for_chunks(const T* x, std::int64_t batch, const Geometry& g, int threads, const Work& work) {
  constexpr std::int64_t PLACES = 256;  // of a chunk: enough for a fast product
  const std::int64_t out_h = g.out_h(), out_w = g.out_w();
  const std::int64_t images = std::min(std::max<std::int64_t>(PLACES / g.places(), 1), batch);
  const std::int64_t rows = images > 1 ? out_h : std::min(std::max<std::int64_t>(PLACES / out_w, 1), out_h);
  const std::int64_t pieces = (out_h + rows - 1) / rows, chunks = (batch + images - 1) / images * pieces;
  const std::int64_t stride = images * rows * out_w + WIDTH<T>;
#pragma omp parallel num_threads(threads)
  {
    const int usual = set_gemm_threads(1);
    Padded<T> padded(g);
    const std::unique_ptr<T[]> unrolled(new T[g.taps() * stride]);
    std::int64_t taken = -1;
#pragma omp for schedule(static)
    for (std::int64_t c = 0; c < chunks; ++c) {
      const std::int64_t image = c / pieces * images, count = std::min(images, batch - image);
      const std::int64_t first = c % pieces * rows, last = std::min(first + rows, out_h);
      for (std::int64_t i = 0; i < count; ++i) {
        if (taken != image + i) padded.take(x + (image + i) * g.channels * g.height * g.width);
        taken = image + i;
        padded.unroll(first, last, &unrolled[i * g.places()], stride);
      }
      work(omp_get_thread_num(), Chunk<T>{image, count, first * out_w, (last - first) * out_w, stride, &unrolled[0]});
    }
    set_gemm_threads(usual);
  }
}

// A chunk's part of y [batch, outputs, places] as a matrix [outputs, `stride`]: of one image where it is, of several in
// a copy.
template <typename T>
class Outputs {
 public:
  Outputs(T* y, const Chunk<T>& chunk, const Geometry& g) : y(y), chunk(chunk), g(g) {
    if (chunk.images > 1) together.resize(g.outputs * chunk.size());
  }

  T* matrix() { return chunk.images > 1 ? together.data() : y + chunk.image * g.outputs * g.places() + chunk.place; }
  std::int64_t stride() const { return chunk.images > 1 ? chunk.size() : g.places(); }
  void gather() {
    each([](T* of_y, T* ours, std::int64_t n) { std::copy_n(of_y, n, ours); });
  }
  void scatter() {
    each([](T* of_y, T* ours, std::int64_t n) { std::copy_n(ours, n, of_y); });
  }

 private:
  template <typename Copy>
  void each(const Copy& copy) {
    T* ours = together.data();
    for (std::int64_t o = 0; o < (chunk.images > 1 ? g.outputs : 0); ++o)
      for (std::int64_t i = 0; i < chunk.images; ++i, ours += chunk.places)
        copy(y + ((chunk.image + i) * g.outputs + o) * chunk.places, ours, chunk.places);
  }

  T* y;
  const Chunk<T>& chunk;
  const Geometry& g;
  std::vector<T> together;
};

// y [batch, outputs, out_h, out_w] of x [batch, C, H, W] and kernels [outputs, taps].
template <typename T>
void convolve(const T* x, const T* kernels, T* y, std::int64_t batch, const Geometry& g, int threads) {
  for_chunks<T>(x, batch, g, threads, [&](int, const Chunk<T>& chunk) {
    Outputs<T> outputs(y, chunk, g);
    gemm<T>(ROW_MAJOR, AS_IT_IS, AS_IT_IS, g.outputs, chunk.size(), g.taps(), 1, kernels, g.taps(), chunk.unrolled,
            chunk.stride, 0, outputs.matrix(), outputs.stride());
    outputs.scatter();
  });
}

// The gradient of the kernels, from g_y, that of y. A sum for each thread, then theirs.
template <typename T>
void kernel_gradient(const T* x, const T* g_y, T* gradient, std::int64_t batch, const Geometry& g, int threads) {
  const std::int64_t size = g.outputs * g.taps();
  std::vector<T> sums(threads * size);
  for_chunks<T>(x, batch, g, threads, [&](int thread, const Chunk<T>& chunk) {
    Outputs<T> upper(const_cast<T*>(g_y), chunk, g);
    upper.gather();
    gemm<T>(ROW_MAJOR, AS_IT_IS, TURNED, g.outputs, g.taps(), chunk.size(), 1, upper.matrix(), upper.stride(),
            chunk.unrolled, chunk.stride, 1, &sums[thread * size], g.taps());
  });
  std::copy_n(sums.data(), size, gradient);
  for (int thread = 1; thread < threads; ++thread)
    for (std::int64_t i = 0; i < size; ++i) gradient[i] += sums[thread * size + i];
}

// The gradient of x, with stride 1.
template <typename T>
void input_gradient(const T* g_y, const T* kernels, T* gradient, std::int64_t batch, const Geometry& g, int threads) {
  const std::int64_t area = g.kernel_h * g.kernel_w;
  std::vector<T> turned(g.outputs * g.taps());
  for (std::int64_t o = 0; o < g.outputs; ++o)
    for (std::int64_t c = 0; c < g.channels; ++c)
      std::reverse_copy(kernels + (o * g.channels + c) * area, kernels + (o * g.channels + c + 1) * area,
                        &turned[(c * g.outputs + o) * area]);
  const Geometry back{g.outputs, g.out_h(), g.out_w(), g.channels, g.kernel_h, g.kernel_w, 1, 1,
                      g.kernel_h - 1 - g.pad_h, g.kernel_w - 1 - g.pad_w};
  convolve<T>(g_y, turned.data(), gradient, batch, back, threads);
}

}  // namespace
