// One plane of a depthwise convolution as in depthwise_3x3.h, the output of which is a single vector, SIDE x SIDE: 4x4
// of floats with AVX-512. What each tap reads is a shuffle of the plane.

#pragma once

#include "strips.h"

namespace {

// What the nine taps read of x [SIDE * STRIDE, SIDE * STRIDE].
template <int SIDE, int STRIDE, typename T>
inline ALWAYS_INLINE void load_whole_taps(const T* x, Strip<T, SIDE * SIDE>* taps) {
  constexpr int LANES = SIDE * SIDE;
  using Map = Strip<T, LANES>;
  if constexpr (STRIDE == 1) {
    const Map map = load_strip<LANES>(x), above = moved<SIDE, 1, 0, T>(map), below = moved<SIDE, -1, 0, T>(map);
    const Map rows[] = {above, map, below};
#pragma GCC unroll 3
    for (int y = 0; y < 3; ++y) {
      taps[3 * y] = moved<SIDE, 0, 1, T>(rows[y]);
      taps[3 * y + 1] = rows[y];
      taps[3 * y + 2] = moved<SIDE, 0, -1, T>(rows[y]);
    }
  } else {
    // [second or first row of each two][second or first column of each two]
    Map quarters[2][2];
#pragma GCC unroll 2
    for (int odd = 0; odd < 2; ++odd) {
      Map halves[2];
#pragma GCC unroll 2
      for (int half = 0; half < 2; ++half) {
        const T* from = x + half * 2 * LANES;
        const auto a = load_strip<LANES>(from), b = load_strip<LANES>(from + LANES);
        halves[half] = shuffled<LANES, T>(a, b, [=](int lane) { return 2 * lane + odd; });
      }
#pragma GCC unroll 2
      for (int second = 0; second < 2; ++second)
        quarters[second][odd] = shuffled<LANES, T>(halves[0], halves[1], [=](int lane) {
          return (lane / SIDE * 2 + second) * SIDE + lane % SIDE;
        });
    }
    const Map before = moved<SIDE, 0, 1, T>(quarters[1][1]);
    const Map found[] = {
        moved<SIDE, 1, 0, T>(before), moved<SIDE, 1, 0, T>(quarters[1][0]), moved<SIDE, 1, 0, T>(quarters[1][1]),
        moved<SIDE, 0, 1, T>(quarters[0][1]), quarters[0][0], quarters[0][1], before, quarters[1][0], quarters[1][1],
    };
#pragma GCC unroll 9
    for (int t = 0; t < 9; ++t) taps[t] = found[t];
  }
}

template <int SIDE, int STRIDE, typename T>
inline ALWAYS_INLINE void convolve_whole(const T* x, const Strip<T, SIDE * SIDE>* w, T* y) {
  Strip<T, SIDE * SIDE> taps[9], total{};
  load_whole_taps<SIDE, STRIDE>(x, taps);
#pragma GCC unroll 9
  for (int t = 0; t < 9; ++t) total += w[t] * taps[t];
  store_strip<SIDE * SIDE>(y, total);
}

// sums[9] += the gradient of the kernel, in as many parts as the vector has lanes.
template <int SIDE, int STRIDE, typename T>
inline ALWAYS_INLINE void add_grad_weight_whole(const T* x, const T* grad_output, Strip<T, SIDE * SIDE>* sums) {
  const auto grads = load_strip<SIDE * SIDE>(grad_output);
  Strip<T, SIDE * SIDE> taps[9];
  load_whole_taps<SIDE, STRIDE>(x, taps);
#pragma GCC unroll 9
  for (int t = 0; t < 9; ++t) sums[t] += grads * taps[t];
}

// grad_input of stride 2, as `convolve_back_by_2`.
template <int SIDE, typename T>
inline ALWAYS_INLINE void convolve_back_whole_by_2(const T* grad_output, const Strip<T, SIDE * SIDE>* w,
                                                   T* grad_input) {
  constexpr int LANES = SIDE * SIDE;
  using Map = Strip<T, LANES>;
  const Map a = load_strip<LANES>(grad_output), b = moved<SIDE, 0, -1, T>(a);
  const Map c = moved<SIDE, -1, 0, T>(a), d = moved<SIDE, -1, 0, T>(b);
  const Map left = w[4] * a, right = w[5] * a + w[3] * b;
  const Map below = w[7] * a + w[1] * c, last = w[8] * a + w[6] * b + w[2] * c + w[0] * d;
  const Map first_rows[] = {interleaved<LANES, false, T>(left, right), interleaved<LANES, true, T>(left, right)};
  const Map second_rows[] = {interleaved<LANES, false, T>(below, last), interleaved<LANES, true, T>(below, last)};
  // Each has rows of 2 SIDE, to be stored in turn.
#pragma GCC unroll 4
  for (int quarter = 0; quarter < 4; ++quarter)
    store_strip<LANES>(grad_input + quarter * LANES,
                       shuffled<LANES, T>(first_rows[quarter / 2], second_rows[quarter / 2], [=](int lane) {
                         return quarter % 2 * (LANES / 2) + lane % (LANES / 2) + lane / (LANES / 2) * LANES;
                       }));
}

}  // namespace
