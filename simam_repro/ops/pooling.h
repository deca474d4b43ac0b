// Max-pooling, which Paddle's own CPU kernels do on one thread. For each output pixel it saves the argmax, the first
// tap of the window with the largest number, so that backward needs neither x nor y.

#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <limits>
#include <utility>
#include <vector>

#include "convolution.h"
#include "lanes.h"
#include "planes.h"

namespace {

using Tap = std::uint8_t;
constexpr std::int64_t MOST_TAPS = 256;

// Full vectors as long as there is `room`: the next row overwrites what is behind this one. The last is a partial
// store.
template <typename T>
void store_row(T* y, Tap* taps, std::int64_t room, Vector<T> values, Integers<T> chosen) {
  typedef Tap Taps __attribute__((vector_size(WIDTH<T>)));
  const Taps narrow = __builtin_convertvector(chosen, Taps);
  if (room >= WIDTH<T>) {
    std::memcpy(y, &values, sizeof values);
    std::memcpy(taps, &narrow, sizeof narrow);
  } else {
    std::memcpy(y, &values, room * sizeof(T));
    std::memcpy(taps, &narrow, room);
  }
}

// One row of y, from what each tap of its windows reads. NaN is larger than any number, as it is for PyTorch; to
// Paddle it is so only in the last tap.
template <typename T>
void pool_row(const std::vector<const T*>& tap_rows, std::int64_t row_offset, std::int64_t out_w, std::int64_t room,
              T* y, Tap* taps) {
  for (std::int64_t i = 0; i < out_w; i += WIDTH<T>) {
    Vector<T> largest = load(tap_rows[0] + row_offset + i);
    Integers<T> tap{}, chosen{};
    for (const T* from : tap_rows) {
      const Vector<T> value = load(from + row_offset + i);
      const Integers<T> larger = (value > largest) | (value != value);
      largest = larger ? value : largest;
      chosen = larger ? tap : chosen;
      tap += 1;
    }
    store_row<T>(y + i, taps + i, room - i, largest, chosen);
  }
}

// y and taps [planes, out_h, out_w] of x [planes, H, W]; g is that of one plane.
template <typename T>
void max_pool(const T* x, T* y, Tap* taps, std::int64_t planes, const Geometry& g, int threads) {
#pragma omp parallel num_threads(threads) if (planes * g.height * g.width > PARALLEL_FROM)
  {
    Padded<T> padded(g, -std::numeric_limits<T>::infinity());
    std::vector<const T*> tap_rows;
    for (std::int64_t h = 0; h < g.kernel_h; ++h)
      for (std::int64_t w = 0; w < g.kernel_w; ++w) tap_rows.push_back(padded.tap_row(0, h, w));
#pragma omp for schedule(static)
    for (std::int64_t p = 0; p < planes; ++p) {
      padded.load_image(x + p * g.height * g.width);
      for (std::int64_t row = 0; row < g.out_h(); ++row) {
        const std::int64_t done = row * g.out_w(), at = p * g.out_pixels() + done;
        pool_row<T>(tap_rows, row * padded.row_step(), g.out_w(), g.out_pixels() - done, y + at, taps + at);
      }
    }
  }
}

// grad_input: the gradient of each output pixel is scattered to its argmax. In a window of nothing but -infinity that
// may be the padding.
template <typename T>
void max_pool_backward(const Tap* taps, const T* grad_output, T* grad_input, std::int64_t planes, const Geometry& g,
                       int threads) {
  std::vector<std::pair<std::int64_t, std::int64_t>> offsets;  // of the taps, downwards and to the right
  for (std::int64_t h = 0; h < g.kernel_h; ++h)
    for (std::int64_t w = 0; w < g.kernel_w; ++w) offsets.emplace_back(h - g.pad_h, w - g.pad_w);
  const std::int64_t size = g.height * g.width, out_h = g.out_h(), out_w = g.out_w();
#pragma omp parallel for schedule(static) num_threads(threads) if (planes * size > PARALLEL_FROM)
  for (std::int64_t p = 0; p < planes; ++p) {
    T* plane = grad_input + p * size;
    std::fill_n(plane, size, T(0));
    std::int64_t at = p * out_h * out_w;
    for (std::int64_t row = 0; row < out_h; ++row)
      for (std::int64_t i = 0; i < out_w; ++i, ++at) {
        const auto [down, right] = offsets[taps[at]];
        const std::int64_t h = row * g.stride_h + down, w = i * g.stride_w + right;
        if (0 <= h && h < g.height && 0 <= w && w < g.width) plane[h * g.width + w] += grad_output[at];
      }
  }
}

}  // namespace
