// Gradients of gradients, for penalties on them. Simple loops: the operators' own gradients are what has to be fast.

#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <utility>
#include <vector>

#include "convolution.h"
#include "pooling.h"

namespace {

// A plane of SimAM with the names of planes.h. With r the gradient of the gradient of x, and dots for derivatives
// along r (and along the bias's), what its gradients contribute to a loss is sum(g y.), where
//   d. = r - mean(r),  v. = 2 sum(d d.) / n,  c. = -4 c^2 v.,  z. = 2 c d d. + c. d^2,  y. = r s + (x + b) s' z.
// The gradient of g is y. itself, that of x is found backwards through these. Those of x + b and r + b. are given here:
// neither b nor b. changes d or d. .
template <typename T>
void simam_second_plane(const T* x, T b, const T* g, const T* r, T r_b, T e_lambda, bool relu, std::int64_t size,
                        T* of_x, T* of_g) {
  const T n = std::max<std::int64_t>(size - 1, 1), count = size;
  T mean_x = 0, mean_r = 0, squares = 0, products = 0;
  for (std::int64_t i = 0; i < size; ++i) mean_x += x[i] / count, mean_r += r[i] / count;
  for (std::int64_t i = 0; i < size; ++i) {
    squares += (x[i] - mean_x) * (x[i] - mean_x);
    products += (x[i] - mean_x) * (r[i] - mean_r);
  }
  const T c = 1 / (4 * (squares / n + e_lambda)), v_dot = 2 * products / n, c_dot = -4 * c * c * v_dot;
  std::vector<T> of_z(size), of_z_dot(size), of_d(size);
  T of_c = 0, of_c_dot = 0;
  for (std::int64_t i = 0; i < size; ++i) {
    const T d = x[i] - mean_x, d_dot = r[i] - mean_r, value = x[i] + b, along = r[i] + r_b;
    const T z_dot = 2 * c * d * d_dot + c_dot * d * d, s = 1 / (1 + std::exp(-c * d * d - T(0.5)));
    const T s1 = s * (1 - s), s2 = s1 * (1 - 2 * s);
    const bool open = !relu || value > 0;
    const T grad = open ? g[i] : T(0);
    of_g[i] = open ? along * s + value * s1 * z_dot : T(0);
    of_x[i] = grad * s1 * z_dot;
    of_z[i] = grad * (along * s1 + value * s2 * z_dot);
    of_z_dot[i] = grad * value * s1;
    of_c += of_z[i] * d * d + 2 * of_z_dot[i] * d * d_dot;
    of_c_dot += of_z_dot[i] * d * d;
  }
  of_c -= 8 * c * v_dot * of_c_dot;
  const T of_v = -4 * c * c * of_c, of_v_dot = -4 * c * c * of_c_dot;
  T mean_of_d = 0;
  for (std::int64_t i = 0; i < size; ++i) {
    const T d = x[i] - mean_x, d_dot = r[i] - mean_r;
    of_d[i] = 2 * (of_z[i] * c * d + of_z_dot[i] * (c * d_dot + c_dot * d) + (of_v_dot * d_dot + of_v * d) / n);
    mean_of_d += of_d[i] / count;
  }
  for (std::int64_t i = 0; i < size; ++i) of_x[i] += of_d[i] - mean_of_d;
}

struct Planes {
  std::int64_t count, channels, size;
};

// All planes, `of` being x, g and r. of_planes: what each adds to the gradient of its bias. biases, r_biases: null where
// there are none.
template <typename T>
void simam_second(std::array<const T*, 3> of, const T* biases, const T* r_biases, T e_lambda, bool relu, Planes planes,
                  T* of_x, T* of_g, T* of_planes, int threads) {
#pragma omp parallel for schedule(static) num_threads(threads)
  for (std::int64_t p = 0; p < planes.count; ++p) {
    const std::int64_t at = p * planes.size, channel = p % planes.channels;
    simam_second_plane<T>(of[0] + at, biases ? biases[channel] : 0, of[1] + at, of[2] + at,
                          r_biases ? r_biases[channel] : 0, e_lambda, relu, planes.size, of_x + at, of_g + at);
    for (std::int64_t i = at; i < at + planes.size; ++i) of_planes[p] += of_x[i];
  }
}

// of_g: r where g is let through, and the bias's with it. y: null without a ReLU, else what came out of it.
template <typename T>
void bias_second(const T* y, const T* r, const T* r_b, T* of_g, std::int64_t planes, std::int64_t channels,
                 std::int64_t size) {
  for (std::int64_t p = 0; p < planes; ++p)
    for (std::int64_t i = p * size; i < (p + 1) * size; ++i)
      of_g[i] = !y || y[i] > 0 ? (r ? r[i] : T(0)) + (r_b ? r_b[p % channels] : T(0)) : T(0);
}

// of_g: each number of r that a window's gradient goes to.
template <typename T>
void max_pool_second(const Tap* taps, const T* r, T* of_g, std::int64_t planes, const Geometry& g) {
  const std::int64_t size = g.height * g.width, out_h = g.out_h(), out_w = g.out_w();
  for (std::int64_t at = 0; at < planes * out_h * out_w; ++at) {
    const std::int64_t p = at / (out_h * out_w), row = at / out_w % out_h, column = at % out_w;
    const std::int64_t h = row * g.stride_h - g.pad_h + taps[at] / g.kernel_w;
    const std::int64_t w = column * g.stride_w - g.pad_w + taps[at] % g.kernel_w;
    const bool inside = 0 <= h && h < g.height && 0 <= w && w < g.width;
    of_g[at] = inside ? r[p * size + h * g.width + w] : T(0);
  }
}

}  // namespace
