// Convolution: 3x3 with stride 1 by Winograd's filtering (winograd.h), or for few channels in place (direct.h); all else
// by im2col and GEMM. Paddle's own CPU kernel does the latter one image at a time, with im2col on one thread; here each
// thread takes images of its own, or rows of them, and its column matrix stays in its cache.
//
// With col [patch_size = C * kernel_h * kernel_w, out_pixels], the im2col of a part of the input,
//   output = weight col,  grad_weight = sum of grad_output col^T,
// and with stride 1 grad_input is a convolution too: of grad_output, with the flipped kernel. With another stride it is
// col2im of weight^T grad_output. For a 1x1 kernel with stride 1 col is the input itself: GEMM reads it where it is.

#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <vector>

#include "direct.h"
#include "im2col.h"
#include "winograd.h"

namespace {

// Up to which the direct form is faster than GEMM: output channels; for grad_weight, pairs of channels.
constexpr std::int64_t FEW_CHANNELS = 64, FEW_PAIRS = 512;

// y [batch, out_channels, out_h, out_w] of x [batch, C, H, W] and weight [out_channels, patch_size].
template <typename T>
void convolve(const T* x, const T* weight, T* y, std::int64_t batch, const Geometry& g, int threads) {
  if (is_winograd(g)) return convolve_winograd<T>(x, weight, y, batch, g, false, threads);
  if (g.dense_3x3() && g.out_channels <= FEW_CHANNELS) return convolve_direct<T>(x, weight, y, batch, g, threads);
  for_chunks<T>(x, batch, g, threads, [&](int, const Chunk<T>& chunk) {
    OutputTile<T> tile(y, chunk, g);
    gemm<T>(ROW_MAJOR, NO_TRANS, NO_TRANS, g.out_channels, chunk.size(), g.patch_size(), 1, weight, g.patch_size(),
            chunk.col, chunk.stride, 0, tile.matrix(), tile.stride());
    tile.scatter();
  });
}

// grad_weight: a partial sum for each thread, then their reduction.
template <typename T>
void backward_weight(const T* x, const T* grad_output, T* grad_weight, std::int64_t batch, const Geometry& g,
                     int threads) {
  if (is_winograd(g)) return backward_weight_winograd<T>(x, grad_output, grad_weight, batch, g, threads);
  if (g.dense_3x3() && g.out_channels * g.channels <= FEW_PAIRS)
    return backward_weight_direct<T>(x, grad_output, grad_weight, batch, g, threads);
  const std::int64_t size = g.out_channels * g.patch_size();
  std::vector<T> sums(threads * size);
  for_chunks<T>(x, batch, g, threads, [&](int thread, const Chunk<T>& chunk) {
    OutputTile<T> tile(const_cast<T*>(grad_output), chunk, g);
    tile.gather();
    gemm<T>(ROW_MAJOR, NO_TRANS, TRANS, g.out_channels, g.patch_size(), chunk.size(), 1, tile.matrix(), tile.stride(),
            chunk.col, chunk.stride, 1, &sums[thread * size], g.patch_size());
  });
  std::copy_n(sums.data(), size, grad_weight);
  for (int thread = 1; thread < threads; ++thread)
    for (std::int64_t i = 0; i < size; ++i) grad_weight[i] += sums[thread * size + i];
}

// grad_input, with stride 1 and less padding than the kernel has taps.
template <typename T>
void backward_dense_input(const T* grad_output, const T* weight, T* grad_input, std::int64_t batch, const Geometry& g,
                    int threads) {
  const Geometry back{
      g.out_channels,          g.out_h(), g.out_w(), g.channels, g.kernel_h, g.kernel_w, 1, 1, g.kernel_h - 1 - g.pad_h,
      g.kernel_w - 1 - g.pad_w};
  if (is_winograd(back)) return convolve_winograd<T>(grad_output, weight, grad_input, batch, back, true, threads);
  const std::int64_t area = g.kernel_h * g.kernel_w;
  std::vector<T> flipped(g.out_channels * g.patch_size());
  for (std::int64_t o = 0; o < g.out_channels; ++o)
    for (std::int64_t c = 0; c < g.channels; ++c)
      std::reverse_copy(weight + (o * g.channels + c) * area, weight + (o * g.channels + c + 1) * area,
                        &flipped[(c * g.out_channels + o) * area]);
  convolve<T>(grad_output, flipped.data(), grad_input, batch, back, threads);
}

// Adds the column matrix of an image's output rows [first, last) to the pixels that they were read from.
template <typename T>
void col2im(const T* col, std::int64_t stride, std::int64_t first, std::int64_t last, const Geometry& g, T* image) {
  const std::int64_t out_w = g.out_w();
  for (std::int64_t c = 0; c < g.channels; ++c, image += g.in_pixels())
    for (std::int64_t y = 0; y < g.kernel_h; ++y)
      for (std::int64_t x = 0; x < g.kernel_w; ++x, col += stride) {
        // Output columns whose pixel is not in the padding.
        const std::int64_t begin = std::max<std::int64_t>(g.pad_w - x + g.stride_w - 1, 0) / g.stride_w;
        const std::int64_t room = g.width + g.pad_w - x;
        const std::int64_t end = std::min(room > 0 ? (room + g.stride_w - 1) / g.stride_w : 0, out_w);
        for (std::int64_t r = first; r < last; ++r) {
          const std::int64_t h = r * g.stride_h + y - g.pad_h;
          if (h < 0 || h >= g.height) continue;
          const T* from = col + (r - first) * out_w;
          for (std::int64_t i = begin; i < end; ++i) image[h * g.width + i * g.stride_w + x - g.pad_w] += from[i];
        }
      }
}

// grad_input of any stride and padding.
template <typename T>
void backward_strided_input(const T* grad_output, const T* weight, T* grad_input, std::int64_t batch,
                            const Geometry& g, int threads) {
  const Tiling tiling(batch, g);
  const std::int64_t image_size = g.channels * g.in_pixels();
#pragma omp parallel num_threads(threads)
  {
    const SingleThreadedGemm single;
    const std::unique_ptr<T[]> col(new T[g.patch_size() * tiling.most_pixels]);
#pragma omp for schedule(static)
    for (std::int64_t group = 0; group < tiling.groups; ++group) {
      T* images = grad_input + group * tiling.images * image_size;
      std::fill_n(images, tiling.chunk<T>(group, 0).images * image_size, T(0));
      for (std::int64_t piece = 0; piece < tiling.pieces; ++piece) {
        const Chunk<T> chunk = tiling.chunk<T>(group, piece);
        OutputTile<T> tile(const_cast<T*>(grad_output), chunk, g);
        tile.gather();
        gemm<T>(ROW_MAJOR, TRANS, NO_TRANS, g.patch_size(), chunk.size(), g.out_channels, 1, weight, g.patch_size(),
                tile.matrix(), tile.stride(), 0, &col[0], chunk.size());
        for (std::int64_t i = 0; i < chunk.images; ++i)
          col2im<T>(&col[i * chunk.pixels()], chunk.size(), chunk.first_row, chunk.last_row, g, images + i * image_size);
      }
    }
  }
}

template <typename T>
void backward_input(const T* grad_output, const T* weight, T* grad_input, std::int64_t batch, const Geometry& g,
                    int threads) {
  const bool dense = g.stride_h * g.stride_w == 1 && g.pad_h < g.kernel_h && g.pad_w < g.kernel_w;
  (dense ? backward_dense_input<T> : backward_strided_input<T>)(grad_output, weight, grad_input, batch, g, threads);
}

}  // namespace
