// One plane of a depthwise convolution with any kernel, stride and padding, in a zero-padded copy that stays in L1.
// There every tap of the kernel reads a contiguous run for an output row. Rows are covered by vectors of at most their
// length, the last of which overlaps the one before: no tail is ever partial.

#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "convolution.h"
#include "strips.h"

namespace {

// The columns of each row are grouped by their remainder modulo stride_w.
template <typename T>
class PaddedPlane {
 public:
  explicit PaddedPlane(const Geometry& g)
      : g(g),
        columns((g.width + 2 * g.pad_w + g.stride_w - 1) / g.stride_w),
        row_size(columns * g.stride_w),
        values((g.height + 2 * g.pad_h) * row_size) {
    for (std::int64_t y = 0; y < g.kernel_h; ++y)
      for (std::int64_t x = 0; x < g.kernel_w; ++x) taps.push_back(y * row_size + column(x));
  }

  // y [out_h, out_w] of x [H, W]. LANES <= out_w.
  template <int LANES>
  void convolve(const T* x, const T* weight, T* y) {
    load(x);
    for (std::int64_t row = 0; row < g.out_h(); ++row)
      cover<LANES>(g.out_w(), [&](std::int64_t i) {
        Strip<T, LANES> total{};
        for (std::size_t t = 0; t < taps.size(); ++t) total += weight[t] * load_strip<LANES>(window(row) + taps[t] + i);
        store_strip<LANES>(y + row * g.out_w() + i, total);
      });
  }

  // totals [taps, PARTS] += the gradient of the kernel, in the first LANES of each.
  template <int LANES, int PARTS>
  void add_grad_weight(const T* x, const T* grad_output, T* totals) {
    load(x);
    const std::int64_t overlap = -g.out_w() & (LANES - 1);
    const auto fresh = lane_numbers<LANES, T>() >= static_cast<LaneIndex<T>>(overlap);
    for (std::size_t t = 0; t < taps.size(); ++t, totals += PARTS) {
      Strip<T, LANES> sums = load_strip<LANES>(totals);
      for (std::int64_t row = 0; row < g.out_h(); ++row)
        cover<LANES>(g.out_w(), [&](std::int64_t i) {
          const auto grads = load_strip<LANES>(grad_output + row * g.out_w() + i);
          const auto counts = i % LANES == 0 ? grads : fresh ? grads : Strip<T, LANES>{};
          sums += counts * load_strip<LANES>(window(row) + taps[t] + i);
        });
      store_strip<LANES>(totals, sums);
    }
  }

  // grad_input [H, W]: what each output pixel's window was read from gets its gradient.
  void scatter(const T* grad_output, const T* weight, T* grad_input) {
    std::fill(values.begin(), values.end(), T(0));
    for (std::size_t t = 0; t < taps.size(); ++t)
      for (std::int64_t row = 0; row < g.out_h(); ++row) {
        T* __restrict to = &values[row * g.stride_h * row_size + taps[t]];
        const T* __restrict grads = grad_output + row * g.out_w();
        for (std::int64_t i = 0; i < g.out_w(); ++i) to[i] += weight[t] * grads[i];
      }
    for_pixels([&](T& value) { *grad_input++ = value; });
    std::fill(values.begin(), values.end(), T(0));  // of the padding, for `load`
  }

 private:
  std::int64_t column(std::int64_t w) const { return w % g.stride_w * columns + w / g.stride_w; }
  const T* window(std::int64_t out_row) const { return &values[out_row * g.stride_h * row_size]; }

  void load(const T* x) {  // the padding is zero already
    for_pixels([&](T& value) { value = *x++; });
  }

  template <typename Work>
  void for_pixels(const Work& work) {
    for (std::int64_t h = 0; h < g.height; ++h) {
      T* row = &values[(h + g.pad_h) * row_size];
      for (std::int64_t w = 0; w < g.width; ++w) work(row[column(w + g.pad_w)]);
    }
  }

  const Geometry g;  // of one channel
  const std::int64_t columns, row_size;
  std::vector<std::int64_t> taps;  // from where an output pixel's window begins
  std::vector<T> values;
};

}  // namespace
