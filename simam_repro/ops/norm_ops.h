// Batch normalisation as Paddle calls it (norm.h computes it), with backward and double backward. Part of simam_ops.cc.
//
// norm_fused is without, norm_sum_fused with a residual. `high` is the ceiling of the activation: infinity for a ReLU,
// 6 for a ReLU6; negative without activation.

#pragma once

#include <algorithm>

#include "norm.h"
#include "norm_second.h"

template <typename T>
Clamp<T> clamp_to(float high) {
  return high < 0 ? Clamp<T>{} : Clamp<T>{T(0), static_cast<T>(high)};
}

Batch batch_of(const paddle::Tensor& x) { return {x.shape()[0], x.shape()[1], plane_size(x)}; }

// Out, Mean and Scale. `given`: the running statistics are used, and stay as they are; else they are updated where they
// are, as by Paddle's own kernel.
std::vector<paddle::Tensor> normalise_by(const paddle::Tensor& x, const paddle::Tensor* residual,
                                         const paddle::Tensor& gamma, const paddle::Tensor& beta,
                                         const paddle::Tensor& running_mean, const paddle::Tensor& running_variance,
                                         bool given, float momentum, float epsilon, float high) {
  auto y = paddle::empty(x.shape(), x.dtype(), x.place());
  auto mean = paddle::empty(gamma.shape(), x.dtype(), x.place());
  auto scale = paddle::empty(gamma.shape(), x.dtype(), x.place());
  PD_DISPATCH_FLOATING_TYPES(
      x.dtype(), "norm_forward", ([&] {
        auto *means = const_cast<data_t*>(running_mean.data<data_t>());
        auto *variances = const_cast<data_t*>(running_variance.data<data_t>());
        const Norm<data_t> norm{gamma.data<data_t>(), beta.data<data_t>(), mean.data<data_t>(), scale.data<data_t>(),
                                clamp_to<data_t>(high)};
        if (given) {
          std::copy_n(means, mean.numel(), norm.mean);
          std::transform(variances, variances + mean.numel(), norm.scale,
                         [=](data_t variance) { return 1 / std::sqrt(variance + static_cast<data_t>(epsilon)); });
        }
        batch_norm<data_t>(x.data<data_t>(), residual ? residual->data<data_t>() : nullptr, y.data<data_t>(),
                             batch_of(x), norm, epsilon, momentum, given ? nullptr : means, variances);
      }));
  return {y, mean, scale};
}

std::vector<paddle::Tensor> norm_forward(const paddle::Tensor& x, const paddle::Tensor& gamma,
                                         const paddle::Tensor& beta, const paddle::Tensor& running_mean,
                                         const paddle::Tensor& running_variance, bool given, float momentum, float epsilon,
                                         float high) {
  return normalise_by(x, nullptr, gamma, beta, running_mean, running_variance, given, momentum, epsilon, high);
}

std::vector<paddle::Tensor> norm_sum_forward(const paddle::Tensor& x, const paddle::Tensor& gamma,
                                             const paddle::Tensor& beta, const paddle::Tensor& running_mean,
                                             const paddle::Tensor& running_variance, const paddle::Tensor& residual,
                                             bool given, float momentum, float epsilon, float high) {
  return normalise_by(x, &residual, gamma, beta, running_mean, running_variance, given, momentum, epsilon, high);
}

template <typename T>
Norm<T> norm_of(const paddle::Tensor& gamma, const paddle::Tensor& beta, const paddle::Tensor& mean,
                const paddle::Tensor& scale, float high) {
  return {gamma.data<T>(), beta.data<T>(), const_cast<T*>(mean.data<T>()), const_cast<T*>(scale.data<T>()),
          clamp_to<T>(high)};
}

// Gradients of x, gamma and beta. y: the output, where a residual was added and an activation followed, else null; then
// `masked` becomes the residual's gradient.
std::vector<paddle::Tensor> norm_gradients(const paddle::Tensor& x, const paddle::Tensor& gamma,
                                           const paddle::Tensor& beta, const paddle::Tensor& mean,
                                           const paddle::Tensor& scale, const paddle::Tensor* y,
                                           const paddle::Tensor& grad_output, bool given, float high,
                                           paddle::Tensor* masked) {
  auto grad_input = paddle::empty(x.shape(), x.dtype(), x.place());
  auto grad_gamma = paddle::empty(gamma.shape(), x.dtype(), x.place());
  auto grad_beta = paddle::empty(beta.shape(), x.dtype(), x.place());
  PD_DISPATCH_FLOATING_TYPES(
      x.dtype(), "norm_backward", ([&] {
        batch_norm_backward<data_t>({x.data<data_t>(), y ? y->data<data_t>() : nullptr, grad_output.data<data_t>(),
                               grad_input.data<data_t>(), grad_gamma.data<data_t>(), grad_beta.data<data_t>(),
                               masked ? masked->data<data_t>() : nullptr},
                              batch_of(x), norm_of<data_t>(gamma, beta, mean, scale, high), given);
      }));
  return {grad_input, grad_gamma, grad_beta};
}

std::vector<paddle::Tensor> norm_backward(const paddle::Tensor& x, const paddle::Tensor& gamma,
                                          const paddle::Tensor& beta, const paddle::Tensor& mean,
                                          const paddle::Tensor& scale, const paddle::Tensor& grad_output, bool given,
                                          float, float, float high) {
  if (is_missing(grad_output)) return {zeros_as(x), zeros_as(gamma), zeros_as(beta)};
  return norm_gradients(x, gamma, beta, mean, scale, nullptr, grad_output, given, high, nullptr);
}

std::vector<paddle::Tensor> norm_sum_backward(const paddle::Tensor& x, const paddle::Tensor& gamma,
                                              const paddle::Tensor& beta, const paddle::Tensor& mean,
                                              const paddle::Tensor& scale, const paddle::Tensor& y,
                                              const paddle::Tensor& grad_output, bool given, float, float,
                                              float high) {
  if (is_missing(grad_output)) return {zeros_as(x), zeros_as(gamma), zeros_as(beta), zeros_as(x)};
  paddle::Tensor grad_residual;
  if (high < 0) {  // it is grad_output itself
    grad_residual.set_impl(grad_output.impl());
    auto gradients = norm_gradients(x, gamma, beta, mean, scale, nullptr, grad_output, given, high, nullptr);
    return {gradients[0], gradients[1], gradients[2], grad_residual};
  }
  grad_residual = paddle::empty(x.shape(), x.dtype(), x.place());
  auto gradients = norm_gradients(x, gamma, beta, mean, scale, &y, grad_output, given, high, &grad_residual);
  return {gradients[0], gradients[1], gradients[2], grad_residual};
}

// Gradients of x, gamma, beta, mean and scale, and of grad_output. Those of the statistics are in that of x.
std::vector<paddle::Tensor> norm_second_of(const paddle::Tensor& x, const paddle::Tensor& gamma,
                                           const paddle::Tensor& beta, const paddle::Tensor& mean,
                                           const paddle::Tensor& scale, const paddle::Tensor* y,
                                           const paddle::Tensor& grad_output, const paddle::Tensor& ggx,
                                           const paddle::Tensor& gggamma, const paddle::Tensor& ggbeta,
                                           const paddle::Tensor* ggresidual, bool given, float high) {
  auto grad_x = paddle::empty_like(x), grad_gamma = paddle::empty_like(gamma);
  auto grad_grad_output = paddle::empty_like(grad_output);
  PD_DISPATCH_FLOATING_TYPES(
      x.dtype(), "norm_second", ([&] {
        norm_second<data_t>({x.data<data_t>(), y ? y->data<data_t>() : nullptr, grad_output.data<data_t>(),
                             numbers<data_t>(ggx), numbers<data_t>(gggamma), numbers<data_t>(ggbeta),
                             ggresidual ? numbers<data_t>(*ggresidual) : nullptr, grad_x.data<data_t>(),
                             grad_gamma.data<data_t>(), grad_grad_output.data<data_t>()},
                            batch_of(x), norm_of<data_t>(gamma, beta, mean, scale, high), given);
      }));
  return {grad_x, grad_gamma, zeros_as(beta), zeros_as(mean), zeros_as(scale), grad_grad_output};
}

std::vector<paddle::Tensor> norm_backward_again(const paddle::Tensor& x, const paddle::Tensor& gamma,
                                                const paddle::Tensor& beta, const paddle::Tensor& mean,
                                                const paddle::Tensor& scale, const paddle::Tensor& grad_output,
                                                const paddle::Tensor& ggx, const paddle::Tensor& gggamma,
                                                const paddle::Tensor& ggbeta, bool given, float, float, float high) {
  return norm_second_of(x, gamma, beta, mean, scale, nullptr, grad_output, ggx, gggamma, ggbeta, nullptr, given, high);
}

std::vector<paddle::Tensor> norm_sum_backward_again(const paddle::Tensor& x, const paddle::Tensor& gamma,
                                                    const paddle::Tensor& beta, const paddle::Tensor& mean,
                                                    const paddle::Tensor& scale, const paddle::Tensor& y,
                                                    const paddle::Tensor& grad_output, const paddle::Tensor& ggx,
                                                    const paddle::Tensor& gggamma, const paddle::Tensor& ggbeta,
                                                    const paddle::Tensor& ggresidual, bool given, float, float,
                                                    float high) {
  auto found = norm_second_of(x, gamma, beta, mean, scale, &y, grad_output, ggx, gggamma, ggbeta, &ggresidual, given,
                              high);
  found.insert(found.end() - 1, zeros_as(y));
  return found;
}

std::vector<Shape> norm_shapes(const Shape& x, const Shape& gamma, const Shape&, const Shape&, const Shape&, bool, float,
                               float, float) {
  return {x, gamma, gamma};
}

std::vector<paddle::DataType> norm_dtypes(const paddle::DataType& x, const paddle::DataType&, const paddle::DataType&,
                                          const paddle::DataType&, const paddle::DataType&) {
  return {x, x, x};
}

std::vector<Shape> norm_sum_shapes(const Shape& x, const Shape& gamma, const Shape&, const Shape&, const Shape&,
                                   const Shape&, bool, float, float, float) {
  return {x, gamma, gamma};
}

std::vector<paddle::DataType> norm_sum_dtypes(const paddle::DataType& x, const paddle::DataType&,
                                              const paddle::DataType&, const paddle::DataType&,
                                              const paddle::DataType&, const paddle::DataType&) {
  return {x, x, x};
}

#define NORM_ATTRIBUTES {"given: bool", "momentum: float", "epsilon: float", "high: float"}

PD_BUILD_OP(norm_fused)
    .Inputs({"X", "Gamma", "Beta", "RunningMean", "RunningVariance"})
    .Outputs({"Out", "Mean", "Scale"})
    .Attrs(NORM_ATTRIBUTES)
    .SetKernelFn(PD_KERNEL(norm_forward))
    .SetInferShapeFn(PD_INFER_SHAPE(norm_shapes))
    .SetInferDtypeFn(PD_INFER_DTYPE(norm_dtypes));

PD_BUILD_GRAD_OP(norm_fused)
    .Inputs({"X", "Gamma", "Beta", "Mean", "Scale", paddle::Grad("Out")})
    .Outputs({paddle::Grad("X"), paddle::Grad("Gamma"), paddle::Grad("Beta")})
    .Attrs(NORM_ATTRIBUTES)
    .SetKernelFn(PD_KERNEL(norm_backward));

PD_BUILD_DOUBLE_GRAD_OP(norm_fused)
    .Inputs({"X", "Gamma", "Beta", "Mean", "Scale", paddle::Grad("Out"), paddle::Grad(paddle::Grad("X")),
             paddle::Grad(paddle::Grad("Gamma")), paddle::Grad(paddle::Grad("Beta"))})
    .Outputs({second_of("X"), second_of("Gamma"), second_of("Beta"), second_of("Mean"), second_of("Scale"),
              paddle::Grad(paddle::Grad("Out"))})
    .Attrs(NORM_ATTRIBUTES)
    .SetKernelFn(PD_KERNEL(norm_backward_again));

PD_BUILD_OP(norm_sum_fused)
    .Inputs({"X", "Gamma", "Beta", "RunningMean", "RunningVariance", "Residual"})
    .Outputs({"Out", "Mean", "Scale"})
    .Attrs(NORM_ATTRIBUTES)
    .SetKernelFn(PD_KERNEL(norm_sum_forward))
    .SetInferShapeFn(PD_INFER_SHAPE(norm_sum_shapes))
    .SetInferDtypeFn(PD_INFER_DTYPE(norm_sum_dtypes));

PD_BUILD_GRAD_OP(norm_sum_fused)
    .Inputs({"X", "Gamma", "Beta", "Mean", "Scale", "Out", paddle::Grad("Out")})
    .Outputs({paddle::Grad("X"), paddle::Grad("Gamma"), paddle::Grad("Beta"), paddle::Grad("Residual")})
    .Attrs(NORM_ATTRIBUTES)
    .SetKernelFn(PD_KERNEL(norm_sum_backward));

PD_BUILD_DOUBLE_GRAD_OP(norm_sum_fused)
    .Inputs({"X", "Gamma", "Beta", "Mean", "Scale", "Out", paddle::Grad("Out"), paddle::Grad(paddle::Grad("X")),
             paddle::Grad(paddle::Grad("Gamma")), paddle::Grad(paddle::Grad("Beta")),
             paddle::Grad(paddle::Grad("Residual"))})
    .Outputs({second_of("X"), second_of("Gamma"), second_of("Beta"), second_of("Mean"), second_of("Scale"),
              second_of("Out"), paddle::Grad(paddle::Grad("Out"))})
    .Attrs(NORM_ATTRIBUTES)
    .SetKernelFn(PD_KERNEL(norm_sum_backward_again));
