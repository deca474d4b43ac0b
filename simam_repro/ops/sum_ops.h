// Residual sum with the ReLU behind it, with backward and double backward. Part of simam_ops.cc.

#pragma once

#include "planes.h"

// Calls `work(vector)` for all vectors of tensors of x's size.
template <typename T, typename Work>
void for_all_vectors(const paddle::Tensor& x, const Work& work) {
  const std::int64_t rows = (x.numel() + BLOCK<T> - 1) / BLOCK<T>;
#pragma omp parallel for schedule(static) num_threads(num_threads) if (x.numel() > PARALLEL_FROM)
  for (std::int64_t row = 0; row < rows; ++row) {
    const Block block{1, std::min(BLOCK<T>, x.numel() - row * BLOCK<T>)};
    for_vectors<T, 0, 0>(block, {}, {}, [=](auto vector, auto) {
      work(vector, row * BLOCK<T>);
      return Vectors<T, 0>{};
    });
  }
}

std::vector<paddle::Tensor> sum_relu_forward(const paddle::Tensor& x, const paddle::Tensor& term) {
  auto y = paddle::empty(x.shape(), x.dtype(), x.place());
  PD_DISPATCH_FLOATING_TYPES(x.dtype(), "sum_relu_forward", ([&] {
                               const data_t *a = x.data<data_t>(), *b = term.data<data_t>();
                               data_t* to = y.data<data_t>();
                               for_all_vectors<data_t>(x, [=](auto vector, std::int64_t at) {
                                 const Vector<data_t> sum = vector.load(a + at) + vector.load(b + at);
                                 vector.store(to + at, sum < data_t(0) ? Vector<data_t>{} : sum);
                               });
                             }));
  return {y};
}

// Each term has a gradient of its own: Paddle adds up in place.
std::vector<paddle::Tensor> sum_relu_backward(const paddle::Tensor& y, const paddle::Tensor& grad_output) {
  auto grad_x = paddle::empty(y.shape(), y.dtype(), y.place());
  auto grad_term = paddle::empty(y.shape(), y.dtype(), y.place());
  PD_DISPATCH_FLOATING_TYPES(y.dtype(), "sum_relu_backward", ([&] {
                               const data_t *ys = y.data<data_t>(), *gs = grad_output.data<data_t>();
                               data_t *a = grad_x.data<data_t>(), *b = grad_term.data<data_t>();
                               for_all_vectors<data_t>(y, [=](auto vector, std::int64_t at) {
                                 const Vector<data_t> g =
                                     vector.load(ys + at) > data_t(0) ? vector.load(gs + at) : Vector<data_t>{};
                                 vector.store(a + at, g);
                                 vector.store(b + at, g);
                               });
                             }));
  return {grad_x, grad_term};
}

std::vector<paddle::Tensor> sum_relu_backward_again(const paddle::Tensor& y, const paddle::Tensor&,
                                                    const paddle::Tensor& ggx, const paddle::Tensor& ggterm) {
  auto grad_grad_output = paddle::empty(y.shape(), y.dtype(), y.place());
  PD_DISPATCH_FLOATING_TYPES(y.dtype(), "sum_relu_second", ([&] {
                               const data_t *ys = y.data<data_t>(), *a = numbers<data_t>(ggx);
                               const data_t* b = numbers<data_t>(ggterm);
                               data_t* to = grad_grad_output.data<data_t>();
                               for (std::int64_t i = 0; i < y.numel(); ++i)
                                 to[i] = ys[i] > 0 ? (a ? a[i] : data_t(0)) + (b ? b[i] : data_t(0)) : data_t(0);
                             }));
  return {zeros_as(y), grad_grad_output};
}

std::vector<Shape> sum_relu_shapes(const Shape& x, const Shape&) { return {x}; }

std::vector<paddle::DataType> sum_relu_dtypes(const paddle::DataType& x, const paddle::DataType&) { return {x}; }

PD_BUILD_OP(sum_relu_fused)
    .Inputs({"X", "Term"})
    .Outputs({"Out"})
    .SetKernelFn(PD_KERNEL(sum_relu_forward))
    .SetInferShapeFn(PD_INFER_SHAPE(sum_relu_shapes))
    .SetInferDtypeFn(PD_INFER_DTYPE(sum_relu_dtypes));

PD_BUILD_GRAD_OP(sum_relu_fused)
    .Inputs({"Out", paddle::Grad("Out")})
    .Outputs({paddle::Grad("X"), paddle::Grad("Term")})
    .SetKernelFn(PD_KERNEL(sum_relu_backward));

PD_BUILD_DOUBLE_GRAD_OP(sum_relu_fused)
    .Inputs({"Out", paddle::Grad("Out"), paddle::Grad(paddle::Grad("X")), paddle::Grad(paddle::Grad("Term"))})
    .Outputs({second_of("Out"), paddle::Grad(paddle::Grad("Out"))})
    .SetKernelFn(PD_KERNEL(sum_relu_backward_again));
