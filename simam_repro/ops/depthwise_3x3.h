// One plane of a depthwise convolution with a 3x3 kernel, padding 1 and stride 1, or 2 and an even width: where x lies,
// without a padded copy. At the edges a zero is shifted into a vector; a row above or below the plane is one of zeros.
// Four output rows are computed together, so that each load serves up to three of them.

#pragma once

#include <cstdint>

#include "convolution.h"
#include "strips.h"

namespace {

constexpr int ROWS = 4;  // of the output at a time; the last ones may be computed twice

// Output pixels along `size` input pixels. Geometry's division costs more than a row of a small map.
template <int STRIDE>
inline std::int64_t strided(std::int64_t size) {
  return static_cast<std::uint64_t>(size - 1) / STRIDE + 1;
}

// Whether a strip begins or ends with its row.
template <bool BEGINS, bool ENDS>
struct Edges {
  static constexpr bool begins = BEGINS, ends = ENDS;
};

// Calls `work(column, edges)` for strips that cover a row, the last of which may overlap the one before.
template <int LANES, typename Work>
inline ALWAYS_INLINE void for_strips(std::int64_t width, const Work& work) {
  if (width == LANES) return work(0, Edges<true, true>());
  work(0, Edges<true, false>());
  std::int64_t column = LANES;
  for (; column + LANES < width; column += LANES) work(column, Edges<false, false>());
  work(width - LANES, Edges<false, true>());
}

// What the three taps of a kernel row read of an input row for output columns from `column` on.
template <int LANES, int STRIDE, typename Edges, typename T>
inline ALWAYS_INLINE void load_taps(const T* row, std::int64_t column, Edges edges, Strip<T, LANES>* taps) {
  row += STRIDE * column;
  if constexpr (STRIDE == 1) {
    taps[1] = load_strip<LANES>(row);
    taps[0] = edges.begins ? after_zero<LANES, T>(taps[1]) : load_strip<LANES>(row - !edges.begins);
    taps[2] = edges.ends ? before_zero<LANES, T>(taps[1]) : load_strip<LANES>(row + !edges.ends);
  } else {
    const auto a = load_strip<LANES>(row), b = load_strip<LANES>(row + LANES);
    taps[1] = every_second<LANES, 0, T>(a, b);
    taps[2] = every_second<LANES, 1, T>(a, b);
    if constexpr (edges.begins)
      taps[0] = after_zero<LANES, T>(taps[2]);
    else
      taps[0] = every_second<LANES, 0, T>(load_strip<LANES>(row - 1), load_strip<LANES>(row + LANES - 1));
  }
}

// Calls `work(row of the window's kernel row y, its three taps)` for the input rows of ROWS output rows.
template <int LANES, int STRIDE, typename T>
class InputRows {
 public:
  static constexpr int COUNT = (ROWS - 1) * STRIDE + 3;

  InputRows(const T* x, const Geometry& g, std::int64_t out_row, const T* zeros)
      : width(g.width), second(x + out_row * STRIDE * width), first(out_row > 0 ? second - width : zeros),
        last(out_row * STRIDE + COUNT - 2 < g.height ? second + (COUNT - 2) * width : zeros) {}

  const T* operator[](int row) const {
    return row == 0 ? first : row == COUNT - 1 ? last : second + (row - 1) * width;
  }

 private:
  const std::int64_t width;
  const T *second, *first, *last;
};

// y [out_h, out_w] of x [H, W] and the kernel w [9], each number in all lanes.
template <int LANES, int STRIDE, typename T>
inline ALWAYS_INLINE void convolve_3x3(const T* x, const Geometry& g, const Strip<T, LANES>* w, const T* zeros, T* y) {
  const std::int64_t out_h = strided<STRIDE>(g.height), out_w = strided<STRIDE>(g.width);
  cover<ROWS>(out_h, [&](std::int64_t out_row) ALWAYS_INLINE {
    const InputRows<LANES, STRIDE, T> rows(x, g, out_row, zeros);
    for_strips<LANES>(out_w, [&](std::int64_t column, auto edges) ALWAYS_INLINE {
      Strip<T, LANES> totals[ROWS] = {}, taps[3];
#pragma GCC unroll 16
      for (int h = 0; h < rows.COUNT; ++h) {
        load_taps<LANES, STRIDE>(rows[h], column, edges, taps);
#pragma GCC unroll 8
        for (int r = 0; r < ROWS; ++r)
#pragma GCC unroll 3
          for (int t = 0; t < 3; ++t)
            if (0 <= h - r * STRIDE && h - r * STRIDE < 3) totals[r] += w[(h - r * STRIDE) * 3 + t] * taps[t];
      }
      T* to = y + out_row * out_w + column;
#pragma GCC unroll 8
      for (int r = 0; r < ROWS; ++r) store_strip<LANES>(to + r * out_w, totals[r]);
    });
  });
}

// sums[9] += what a plane adds to the gradient of its kernel, in LANES parts.
template <int LANES, int STRIDE, typename T>
inline ALWAYS_INLINE void add_grad_weight_3x3(const T* x, const Geometry& g, const T* grad_output, const T* zeros,
                                              Strip<T, LANES>* sums) {
  const std::int64_t out_h = strided<STRIDE>(g.height), out_w = strided<STRIDE>(g.width);
  const auto fresh = lane_numbers<LANES, T>() >= static_cast<LaneIndex<T>>(-out_w & (LANES - 1));
  std::int64_t done = 0;
  cover<ROWS>(out_h, [&](std::int64_t out_row) ALWAYS_INLINE {
    const InputRows<LANES, STRIDE, T> rows(x, g, out_row, zeros);
    const std::int64_t twice = done - out_row;  // rows that count already
    done = out_row + ROWS;
    for_strips<LANES>(out_w, [&](std::int64_t column, auto edges) ALWAYS_INLINE {
      Strip<T, LANES> grads[ROWS], taps[3];
#pragma GCC unroll 8
      for (int r = 0; r < ROWS; ++r) {
        grads[r] = load_strip<LANES>((r < twice ? zeros : grad_output + (out_row + r) * out_w) + column);
        if constexpr (edges.ends && !edges.begins) grads[r] = fresh ? grads[r] : Strip<T, LANES>{};
      }
#pragma GCC unroll 16
      for (int h = 0; h < rows.COUNT; ++h) {
        load_taps<LANES, STRIDE>(rows[h], column, edges, taps);
#pragma GCC unroll 8
        for (int r = 0; r < ROWS; ++r)
#pragma GCC unroll 3
          for (int t = 0; t < 3; ++t)
            if (0 <= h - r * STRIDE && h - r * STRIDE < 3) sums[(h - r * STRIDE) * 3 + t] += grads[r] * taps[t];
      }
    });
  });
}

// grad_input [H, W] of stride 2: the 2x2 pixels at (2n, 2m) are in the windows of output pixels (n, m) to
// (n + 1, m + 1).
template <int LANES, typename T>
inline ALWAYS_INLINE void convolve_back_by_2(const T* grad_output, const Geometry& g, const Strip<T, LANES>* w,
                                             const T* zeros, T* grad_input) {
  const std::int64_t out_h = strided<2>(g.height), out_w = strided<2>(g.width), width = g.width;
  for (std::int64_t n = 0; n < out_h; ++n, grad_output += out_w, grad_input += 2 * width) {
    const T* next = n + 1 < out_h ? grad_output + out_w : zeros;
    for_strips<LANES>(out_w, [&](std::int64_t m, auto edges) ALWAYS_INLINE {
      const auto a = load_strip<LANES>(grad_output + m), c = load_strip<LANES>(next + m);
      const auto b = edges.ends ? before_zero<LANES, T>(a) : load_strip<LANES>(grad_output + m + !edges.ends);
      const auto d = edges.ends ? before_zero<LANES, T>(c) : load_strip<LANES>(next + m + !edges.ends);
      const Strip<T, LANES> left = w[4] * a, right = w[5] * a + w[3] * b;
      const Strip<T, LANES> below = w[7] * a + w[1] * c, last = w[8] * a + w[6] * b + w[2] * c + w[0] * d;
      T* to = grad_input + 2 * m;
      store_strip<LANES>(to, interleaved<LANES, false, T>(left, right));
      store_strip<LANES>(to + LANES, interleaved<LANES, true, T>(left, right));
      if (2 * n + 1 == g.height) return;
      store_strip<LANES>(to + width, interleaved<LANES, false, T>(below, last));
      store_strip<LANES>(to + width + LANES, interleaved<LANES, true, T>(below, last));
    });
  }
}

}  // namespace
