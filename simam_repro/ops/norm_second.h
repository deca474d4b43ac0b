// Double backward of batch normalisation, in the names of norm.h and second.h. Simple loops.
//
// With z = s d, E the mean over the channel's n numbers, and g masked by the clamp, the first backward gives
//   grad_input = gamma s (g - E[g] - z E[g z]),  grad_gamma = n E[g z],  grad_beta = n E[g]
// and the loss of its gradients is L = n (gamma s K + w E[g z] + b E[g]), where v, w and b are the gradients with respect
// to those three and K = E[v g] - E[v] E[g] - E[v z] E[g z]. From it
//   grad_grad_output = gamma s (v - E[v] - z E[v z]) + w z + b, where the clamp let g pass
//   grad_gamma = n s K
//   grad_x = s (q - E[q] - z E[q z]) - gamma s^2 K z  with q = w g - gamma s (E[g z] v + E[v z] g) = dL/dz
// With given statistics K = E[v g], and nothing else depends on a mean: grad_grad_output = gamma s v + w z + b, and
// grad_x = s w g.

#pragma once

#include <cstdint>

#include "norm.h"

namespace {

template <typename T>
struct NormSecond {
  const T *x, *y, *grad_output, *ggx, *gggamma, *ggbeta, *ggresidual;  // y and what follows: or null
  T *grad_x, *grad_gamma, *grad_grad_output;
};

// One channel. The tensors are read again for each mean.
template <typename T>
void norm_second_channel(const NormSecond<T>& of, const Batch& batch, const Norm<T>& norm, bool given, std::int64_t c) {
  const double gamma = norm.gamma[c], beta = norm.beta[c], mean = norm.mean[c], s = norm.scale[c];
  const double w = of.gggamma ? of.gggamma[c] : T(0), b = of.ggbeta ? of.ggbeta[c] : T(0);
  const double n = static_cast<double>(batch.images * batch.size);
  const auto z = [&](std::int64_t i) { return (of.x[i] - mean) * s; };
  const auto v = [&](std::int64_t i) -> double { return of.ggx ? of.ggx[i] : T(0); };
  const auto open = [&](std::int64_t i) {
    const double y = of.y ? of.y[i] : gamma * z(i) + beta;
    return !(y <= norm.clamp.low || y >= norm.clamp.high);
  };
  const auto g = [&](std::int64_t i) -> double { return open(i) ? of.grad_output[i] : T(0); };
  const auto mean_of = [&](const auto& value) {
    double total = 0;
    for (std::int64_t image = 0; image < batch.images; ++image)
      for (std::int64_t i = batch.at(image, c); i < batch.at(image, c) + batch.size; ++i) total += value(i);
    return total / n;
  };
  const double dependent = given ? 0 : 1;  // whether the statistics depend on x
  const double g_mean = dependent * mean_of(g), v_mean = dependent * mean_of(v);
  const double gz = dependent * mean_of([&](std::int64_t i) { return g(i) * z(i); });
  const double vz = dependent * mean_of([&](std::int64_t i) { return v(i) * z(i); });
  const double k = mean_of([&](std::int64_t i) { return v(i) * g(i); }) - v_mean * g_mean - vz * gz;
  const auto q = [&](std::int64_t i) { return w * g(i) - gamma * s * (gz * v(i) + vz * g(i)); };
  const double q_mean = dependent * mean_of(q);
  const double qz = dependent * (mean_of([&](std::int64_t i) { return q(i) * z(i); }) + gamma * s * k);
  of.grad_gamma[c] = static_cast<T>(n * s * k);
  for (std::int64_t image = 0; image < batch.images; ++image)
    for (std::int64_t i = batch.at(image, c); i < batch.at(image, c) + batch.size; ++i) {
      const double along = gamma * s * (v(i) - v_mean - z(i) * vz) + w * z(i) + b;
      of.grad_grad_output[i] = static_cast<T>(open(i) ? along + (of.ggresidual ? of.ggresidual[i] : T(0)) : 0);
      of.grad_x[i] = static_cast<T>(s * (q(i) - q_mean - z(i) * qz));
    }
}

template <typename T>
void norm_second(const NormSecond<T>& of, const Batch& batch, const Norm<T>& norm, bool given) {
#pragma omp parallel for schedule(static) num_threads(num_threads)
  for (std::int64_t c = 0; c < batch.channels; ++c) norm_second_channel<T>(of, batch, norm, given, c);
}

}  // namespace
