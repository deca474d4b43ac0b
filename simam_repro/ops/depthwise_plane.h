// One plane of a depthwise convolution, in a zero-padded buffer that stays in L1. There every tap of the kernel reads a
// contiguous run for an output row, so an output vector is a sum of taps times shifted loads. Rows are covered by
// vectors of at most their length, the last of which overlaps the one before: no tail is ever partial. 3x3 kernels with
// stride 1 or 2 are unrolled, several output rows at a time, so that each load serves up to three.

#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <type_traits>
#include <vector>

#include "convolution.h"
#include "lanes.h"

namespace {

// A vector of LANES numbers.
template <typename T, int LANES>
struct Strips {
  typedef T Type __attribute__((vector_size(LANES * sizeof(T))));
};
template <typename T, int LANES>
using Strip = typename Strips<T, LANES>::Type;

template <int LANES, typename T>
inline Strip<T, LANES> load_strip(const T* from) {
  Strip<T, LANES> value;
  std::memcpy(&value, from, sizeof value);
  return value;
}

template <int LANES, typename T>
inline void store_strip(T* to, Strip<T, LANES> value) {
  std::memcpy(to, &value, sizeof value);
}

// Calls `work` with the number of lanes, a constant, of the longest vector that a row of `width` fills.
template <typename T, typename Work>
void with_lanes(std::int64_t width, const Work& work) {
#ifdef __AVX512F__
  constexpr int LONGEST = 64 / sizeof(T);
#else
  constexpr int LONGEST = 32 / sizeof(T);
#endif
  constexpr int MEDIUM = 32 / sizeof(T), SHORT = 16 / sizeof(T);
  if (width >= LONGEST) return work(std::integral_constant<int, LONGEST>());
  if (width >= MEDIUM) return work(std::integral_constant<int, MEDIUM>());
  if (width >= SHORT) return work(std::integral_constant<int, SHORT>());
  work(std::integral_constant<int, 1>());
}

// Calls `work(begin)` for runs of LENGTH that cover [0, size), size >= LENGTH. The last may overlap the one before.
template <int LENGTH, typename Work>
inline __attribute__((always_inline)) void cover(std::int64_t size, const Work& work) {
  std::int64_t begin = 0;
  for (; begin + LENGTH <= size; begin += LENGTH) work(begin);
  if (begin < size) work(size - LENGTH);
}

// A zero-padded plane. The columns of each row are grouped by their remainder modulo stride_w.
struct PaddedPlane {
  explicit PaddedPlane(const Geometry& g)
      : g(g),
        columns((g.width + 2 * g.pad_w + g.stride_w - 1) / g.stride_w),
        row_size(columns * g.stride_w),
        size((g.height + 2 * g.pad_h) * row_size) {
    for (std::int64_t y = 0; y < g.kernel_h; ++y)
      for (std::int64_t x = 0; x < g.kernel_w; ++x) taps.push_back(y * row_size + column(x));
  }

  std::int64_t column(std::int64_t w) const { return w % g.stride_w * columns + w / g.stride_w; }
  std::int64_t row_step() const { return g.stride_h * row_size; }  // from an output row to the next
  bool known(std::int64_t stride) const {
    return g.kernel_h == 3 && g.kernel_w == 3 && g.stride_h == stride && g.stride_w == stride;
  }

  Geometry g;  // of one channel
  std::int64_t columns, row_size, size;
  std::vector<std::int64_t> taps;  // from where an output pixel's window begins
};

// What follows has `LANES` <= width and out_w.

// Every second column, from two vectors: those from the first on, or from the second on.
template <int LANES, int FIRST, typename T>
inline Strip<T, LANES> every_second(Strip<T, LANES> a, Strip<T, LANES> b) {
  typedef std::conditional_t<sizeof(T) == 4, std::int32_t, std::int64_t> Index;
  Strip<Index, LANES> which;
  for (int lane = 0; lane < LANES; ++lane) which[lane] = 2 * lane + FIRST;
  return __builtin_shuffle(a, b, which);
}

// The lower or upper half of a0 b0 a1 b1 ...
template <int LANES, bool UPPER, typename T>
inline Strip<T, LANES> interleaved(Strip<T, LANES> a, Strip<T, LANES> b) {
  typedef std::conditional_t<sizeof(T) == 4, std::int32_t, std::int64_t> Index;
  if constexpr (LANES == 1) return UPPER ? b : a;
  Strip<Index, LANES> which;
  for (int lane = 0; lane < LANES; ++lane) which[lane] = (lane + UPPER * LANES) / 2 + lane % 2 * LANES;
  return __builtin_shuffle(a, b, which);
}

// Copies a plane into its padded buffer, whose padding is zero already.
template <int LANES, typename T>
void load_plane(const T* plane, const PaddedPlane& padded, T* to) {
  const Geometry& g = padded.g;
  const std::int64_t pairs = g.width / 2;
  T* row = to + g.pad_h * padded.row_size;
  for (std::int64_t h = 0; h < g.height; ++h, plane += g.width, row += padded.row_size) {
    std::int64_t done = 0;
    if (g.stride_w == 1) {
      cover<LANES>(g.width, [=](std::int64_t w) {
        store_strip<LANES>(row + g.pad_w + w, load_strip<LANES>(plane + w));
      });
      done = g.width;
    } else if constexpr (LANES > 1) {
      if (g.stride_w == 2 && pairs >= LANES) {
        T *first = row + padded.column(g.pad_w), *second = row + padded.column(g.pad_w + 1);
        cover<LANES>(pairs, [=](std::int64_t pair) {
          const auto a = load_strip<LANES>(plane + 2 * pair), b = load_strip<LANES>(plane + 2 * pair + LANES);
          store_strip<LANES>(first + pair, every_second<LANES, 0, T>(a, b));
          store_strip<LANES>(second + pair, every_second<LANES, 1, T>(a, b));
        });
        done = 2 * pairs;
      }
    }
    for (; done < g.width; ++done) row[padded.column(done + g.pad_w)] = plane[done];
  }
}

// ROWS output rows of a strip, for a 3x3 kernel.
template <int LANES, int STRIDE, int ROWS, typename T>
inline __attribute__((always_inline)) void convolve_strip(const T* from, const PaddedPlane& padded,
                                                          const Strip<T, LANES>* weight, T* to, std::int64_t out_w) {
  Strip<T, LANES> rows[ROWS] = {};
#pragma GCC unroll 16
  for (int h = 0; h < (ROWS - 1) * STRIDE + 3; ++h) {
#pragma GCC unroll 3
    for (int x = 0; x < 3; ++x) {
      const auto value = load_strip<LANES>(from + h * padded.row_size + x % STRIDE * padded.columns + x / STRIDE);
#pragma GCC unroll 8
      for (int r = 0; r < ROWS; ++r) {
        const int y = h - r * STRIDE;
        if (0 <= y && y < 3) rows[r] += weight[y * 3 + x] * value;
      }
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < ROWS; ++r) store_strip<LANES>(to + r * out_w, rows[r]);
}

template <int LANES, int STRIDE, int ROWS, typename T>
void convolve_plane_3x3(const T* from, const PaddedPlane& padded, const T* weight, T* y) {
  const std::int64_t out_h = padded.g.out_h(), out_w = padded.g.out_w(), step = padded.row_step();
  Strip<T, LANES> taps[9];
  for (int t = 0; t < 9; ++t) taps[t] = Strip<T, LANES>{} + weight[t];
  cover<ROWS>(out_h, [&](std::int64_t row) {
    cover<LANES>(out_w, [&](std::int64_t i) {
      convolve_strip<LANES, STRIDE, ROWS>(from + row * step + i, padded, taps, y + row * out_w + i, out_w);
    });
  });
}

template <int LANES, typename T>
void convolve_plane_any(const T* from, const PaddedPlane& padded, const T* weight, T* y) {
  const std::int64_t out_w = padded.g.out_w();
  for (std::int64_t row = 0; row < padded.g.out_h(); ++row, from += padded.row_step(), y += out_w)
    cover<LANES>(out_w, [&](std::int64_t i) {
      Strip<T, LANES> total{};
      for (std::size_t t = 0; t < padded.taps.size(); ++t)
        total += weight[t] * load_strip<LANES>(from + i + padded.taps[t]);
      store_strip<LANES>(y + i, total);
    });
}

// y [out_h, out_w] of a padded plane.
template <int LANES, typename T>
void convolve_plane(const T* from, const PaddedPlane& padded, const T* weight, T* y) {
  const bool several = padded.g.out_h() >= 4;
  auto function = convolve_plane_any<LANES, T>;
  if (padded.known(1)) function = several ? convolve_plane_3x3<LANES, 1, 4, T> : convolve_plane_3x3<LANES, 1, 1, T>;
  if (padded.known(2)) function = several ? convolve_plane_3x3<LANES, 2, 4, T> : convolve_plane_3x3<LANES, 2, 1, T>;
  function(from, padded, weight, y);
}

// Calls `work(begin, lanes that count)` for strips that cover a row: those of an overlap count once.
template <int LANES, typename T, typename Work>
inline __attribute__((always_inline)) void for_strips_once(std::int64_t width, const Work& work) {
  typedef std::conditional_t<sizeof(T) == 4, std::int32_t, std::int64_t> Index;
  Strip<Index, LANES> lanes;
  for (int lane = 0; lane < LANES; ++lane) lanes[lane] = lane;
  std::int64_t begin = 0;
  for (; begin + LANES <= width; begin += LANES) work(begin, lanes >= 0);
  if (begin < width) work(width - LANES, lanes >= static_cast<Index>(begin + LANES - width));
}

// Adds what ROWS output rows add to the gradient of a 3x3 kernel, in LANES parts.
template <int LANES, int STRIDE, int ROWS, typename T>
inline __attribute__((always_inline)) void add_grad_weight_rows(const T* from, const PaddedPlane& padded, const T* g,
                                                                Strip<T, LANES>* sums) {
  const std::int64_t out_w = padded.g.out_w();
  for_strips_once<LANES, T>(out_w, [&](std::int64_t i, auto counts) __attribute__((always_inline)) {
    Strip<T, LANES> grads[ROWS];
#pragma GCC unroll 8
    for (int r = 0; r < ROWS; ++r) grads[r] = counts ? load_strip<LANES>(g + r * out_w + i) : Strip<T, LANES>{};
#pragma GCC unroll 16
    for (int h = 0; h < (ROWS - 1) * STRIDE + 3; ++h) {
#pragma GCC unroll 3
      for (int x = 0; x < 3; ++x) {
        const T* at = from + i + h * padded.row_size + x % STRIDE * padded.columns + x / STRIDE;
        const auto value = load_strip<LANES>(at);
#pragma GCC unroll 8
        for (int r = 0; r < ROWS; ++r) {
          const int y = h - r * STRIDE;
          if (0 <= y && y < 3) sums[y * 3 + x] += grads[r] * value;
        }
      }
    }
  });
}

template <int LANES, int STRIDE, typename T>
void add_grad_weight_3x3(const T* from, const PaddedPlane& padded, const T* g, T* totals) {
  const std::int64_t out_h = padded.g.out_h(), out_w = padded.g.out_w(), step = padded.row_step();
  Strip<T, LANES> sums[9] = {};
  std::int64_t row = 0;
  for (; row + 4 <= out_h; row += 4)
    add_grad_weight_rows<LANES, STRIDE, 4>(from + row * step, padded, g + row * out_w, sums);
  for (; row < out_h; ++row)
    add_grad_weight_rows<LANES, STRIDE, 1>(from + row * step, padded, g + row * out_w, sums);
  for (int t = 0; t < 9; ++t) store_strip<LANES>(totals + t * LANES, load_strip<LANES>(totals + t * LANES) + sums[t]);
}

template <int LANES, typename T>
void add_grad_weight_any(const T* from, const PaddedPlane& padded, const T* g, T* totals) {
  const std::int64_t out_w = padded.g.out_w();
  for (std::int64_t tap : padded.taps) {
    Strip<T, LANES> sums{};
    for (std::int64_t row = 0; row < padded.g.out_h(); ++row)
      for_strips_once<LANES, T>(out_w, [&](std::int64_t i, auto counts) {
        const auto grads = counts ? load_strip<LANES>(g + row * out_w + i) : Strip<T, LANES>{};
        sums += grads * load_strip<LANES>(from + row * padded.row_step() + tap + i);
      });
    store_strip<LANES>(totals, load_strip<LANES>(totals) + sums);
    totals += LANES;
  }
}

// totals [taps, LANES] += what a padded plane and its grad_output g add to the gradient of the kernel.
template <int LANES, typename T>
void add_grad_weight(const T* from, const PaddedPlane& padded, const T* g, T* totals) {
  auto function = add_grad_weight_any<LANES, T>;
  if (padded.known(1)) function = add_grad_weight_3x3<LANES, 1, T>;
  if (padded.known(2)) function = add_grad_weight_3x3<LANES, 2, T>;
  function(from, padded, g, totals);
}

// grad_input of a 3x3 kernel with stride 2 and padding 1, from the padded grad_output: the 2x2 input pixels at
// (2n, 2m) are in the windows of output pixels (n, m) to (n + 1, m + 1).
template <int LANES, typename T>
void convolve_back_by_2(const T* from, const PaddedPlane& padded, const T* weight, T* grad_input) {
  Strip<T, LANES> w[9];
  for (int t = 0; t < 9; ++t) w[t] = Strip<T, LANES>{} + weight[t];
  const std::int64_t half = padded.g.width, width = 2 * half;
  from += padded.row_size + 1;
  for (std::int64_t n = 0; n < padded.g.height; ++n, from += padded.row_size, grad_input += 2 * width)
    cover<LANES>(half, [&](std::int64_t m) __attribute__((always_inline)) {
      const auto a = load_strip<LANES>(from + m), b = load_strip<LANES>(from + m + 1);
      const auto c = load_strip<LANES>(from + padded.row_size + m), d = load_strip<LANES>(from + padded.row_size + m + 1);
      const Strip<T, LANES> left = w[4] * a, right = w[5] * a + w[3] * b;
      const Strip<T, LANES> below = w[7] * a + w[1] * c, last = w[8] * a + w[6] * b + w[2] * c + w[0] * d;
      T* to = grad_input + 2 * m;
      store_strip<LANES>(to, interleaved<LANES, false, T>(left, right));
      store_strip<LANES>(to + LANES, interleaved<LANES, true, T>(left, right));
      store_strip<LANES>(to + width, interleaved<LANES, false, T>(below, last));
      store_strip<LANES>(to + width + LANES, interleaved<LANES, true, T>(below, last));
    });
}

// grad_input of any kernel, stride and padding, by way of `scratch`, a padded plane.
template <typename T>
void scatter_back(const T* g, const PaddedPlane& padded, const T* weight, T* scratch, T* grad_input) {
  const std::int64_t out_h = padded.g.out_h(), out_w = padded.g.out_w();
  std::fill_n(scratch, padded.size, T(0));
  for (std::size_t t = 0; t < padded.taps.size(); ++t)
    for (std::int64_t row = 0; row < out_h; ++row) {
      T* __restrict to = scratch + row * padded.row_step() + padded.taps[t];
      const T* __restrict grads = g + row * out_w;
      for (std::int64_t i = 0; i < out_w; ++i) to[i] += weight[t] * grads[i];
    }
  for (std::int64_t h = 0; h < padded.g.height; ++h)
    for (std::int64_t w = 0; w < padded.g.width; ++w)
      *grad_input++ = scratch[(h + padded.g.pad_h) * padded.row_size + padded.column(w + padded.g.pad_w)];
}

}  // namespace
