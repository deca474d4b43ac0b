// What convolutions share: shapes, GEMM, how a batch is cut into chunks, and im2col of a chunk.

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
  std::int64_t in_pixels() const { return height * width; }
  bool dense_3x3() const {
    return kernel_h == 3 && kernel_w == 3 && stride_h * stride_w == 1 && pad_h < 3 && pad_w < 3;
  }
  bool pointwise() const { return kernel_h * kernel_w * stride_h * stride_w == 1 && pad_h == 0 && pad_w == 0; }
};

std::int64_t ceil_div(std::int64_t size, std::int64_t step) { return (size + step - 1) / step; }

// MKL runs on the calling thread alone while this lives: the threads are ours.
class SingleThreadedGemm {
 public:
  SingleThreadedGemm() : usual(set_gemm_threads(1)) {}
  ~SingleThreadedGemm() { set_gemm_threads(usual); }
  SingleThreadedGemm(const SingleThreadedGemm&) = delete;

 private:
  const int usual;
};

// A padded image whose columns are grouped by their remainder modulo stride_w, so that what one tap of the kernel reads
// for an output row is contiguous. Its sides are whole strides: the last ones may read a bit more of the padding.
template <typename T>
class Padded {
 public:
  explicit Padded(const Geometry& g, T padding = 0)
      : g(g),
        rows(ceil_div(g.height + 2 * g.pad_h, g.stride_h) * g.stride_h),
        columns(ceil_div(g.width + 2 * g.pad_w, g.stride_w)),
        values(g.channels * g.stride_w * rows * columns + WIDTH<T> * g.stride_w, padding) {}

  void load_image(const T* image) { load_rows(image, 0, g.height); }

  // Rows [first, last) of the image, as far as there are any.
  void load_rows(const T* image, std::int64_t first, std::int64_t last) {
    first = std::max<std::int64_t>(first, 0);
    last = std::min(last, g.height);
    for (std::int64_t c = 0; c < g.channels; ++c)
      for (std::int64_t h = first; h < last; ++h)
        for (std::int64_t w = 0; w < std::min(g.stride_w, g.width); ++w) {
          T* to = &values[row(c, (w + g.pad_w) % g.stride_w, h + g.pad_h) + (w + g.pad_w) / g.stride_w];
          const T *begin = image + (c * g.height + h) * g.width, *from = begin + w, *end = begin + g.width;
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

// Some images, or some output rows of one, and their column matrix [patch_size, pixels of all], leading dimension
// `stride`.
template <typename T>
struct Chunk {
  std::int64_t image, images, first_row, last_row, out_w, stride;
  const T* col;

  std::int64_t first_pixel() const { return first_row * out_w; }
  std::int64_t pixels() const { return (last_row - first_row) * out_w; }  // of each image
  std::int64_t size() const { return images * pixels(); }
};

// How a batch is cut into chunks: groups of images of `pieces` chunks each.
struct Tiling {
  static constexpr std::int64_t PIXELS = 256;  // of a chunk: enough for a fast GEMM

  Tiling(std::int64_t batch, const Geometry& g, std::int64_t pixels = PIXELS)
      : batch(batch),
        out_h(g.out_h()),
        out_w(g.out_w()),
        images(std::min(std::max<std::int64_t>(pixels / g.out_pixels(), 1), batch)),
        rows(images > 1 ? out_h : std::min(std::max<std::int64_t>(pixels / out_w, 1), out_h)),
        pieces(ceil_div(out_h, rows)),
        groups(ceil_div(batch, images)),
        most_pixels(images * rows * out_w) {}

  template <typename T>
  Chunk<T> chunk(std::int64_t group, std::int64_t piece) const {
    const std::int64_t image = group * images, first = piece * rows;
    return {image, std::min(images, batch - image), first, std::min(first + rows, out_h), out_w, 0, nullptr};
  }

  const std::int64_t batch, out_h, out_w, images, rows, pieces, groups, most_pixels;
};

// The column matrix of a chunk of x [batch, C, H, W], in memory of its own unless x itself will do.
template <typename T>
class Columns {
 public:
  Columns(const T* x, const Geometry& g, const Tiling& tiling) : x(x), g(g), stride(tiling.most_pixels + LINE<T>) {
    if (g.pointwise() && tiling.images == 1) return;
    col.reset(new T[g.patch_size() * stride]);
    if (!g.pointwise()) padded.reset(new Padded<T>(g));
  }

  Chunk<T> of(Chunk<T> chunk) {
    const std::int64_t image_size = g.channels * g.in_pixels();
    if (!col) {
      chunk.col = x + chunk.image * image_size + chunk.first_pixel();
      chunk.stride = g.in_pixels();
      return chunk;
    }
    for (std::int64_t i = 0; i < chunk.images; ++i) {
      const T* image = x + (chunk.image + i) * image_size;
      T* to = &col[i * g.out_pixels()];
      if (g.pointwise()) {
        for (std::int64_t c = 0; c < g.channels; ++c)
          std::copy_n(image + c * g.in_pixels(), g.in_pixels(), to + c * stride);
      } else {
        if (loaded != chunk.image + i) padded->load_image(image);
        loaded = chunk.image + i;
        padded->im2col(chunk.first_row, chunk.last_row, to, stride);
      }
    }
    chunk.col = &col[0];
    chunk.stride = stride;
    return chunk;
  }

 private:
  const T* x;
  const Geometry& g;
  const std::int64_t stride;
  std::unique_ptr<T[]> col;
  std::unique_ptr<Padded<T>> padded;
  std::int64_t loaded = -1;
};

// Calls `work(thread, chunk)` for chunks of x [batch, C, H, W], shared among the threads.
template <typename T, typename Work>
void for_chunks(const T* x, std::int64_t batch, const Geometry& g, int threads, const Work& work) {
  const Tiling tiling(batch, g);
#pragma omp parallel num_threads(threads)
  {
    const SingleThreadedGemm single;
    Columns<T> columns(x, g, tiling);
#pragma omp for schedule(static)
    for (std::int64_t c = 0; c < tiling.groups * tiling.pieces; ++c)
      work(omp_get_thread_num(), columns.of(tiling.chunk<T>(c / tiling.pieces, c % tiling.pieces)));
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
    return chunk.images > 1 ? packed.data() : y + chunk.image * g.out_channels * g.out_pixels() + chunk.first_pixel();
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
      for (std::int64_t i = 0; i < chunk.images; ++i, ours += chunk.pixels())
        copy(y + ((chunk.image + i) * g.out_channels + o) * chunk.pixels(), ours, chunk.pixels());
  }

  T* y;
  const Chunk<T>& chunk;
  const Geometry& g;
  std::vector<T> packed;
};

}  // namespace
