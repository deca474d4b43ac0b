// 3x3 convolution with stride 1 by Winograd's minimal filtering F(2x2, 3x3): 16 multiplications for a tile of four output
// pixels where there are 36 without it (A. Lavin and S. Gray, "Fast Algorithms for Convolutional Neural Networks", 2016,
// whose names these are). Of a tile of the input d, 4x4, and a kernel g the output is
//   Y = A^T [(G g G^T) * (B^T d B)] A, elementwise in the brackets,
// which over channels is a GEMM for each of the 16 elements; the gradient of g is
//   G^T [(A grad_Y A^T) * (B^T d B)] G.
// The additions and halves of the transforms cost a bit of the last digit or two.

#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <vector>

#include "im2col.h"
#include "strips.h"

namespace {

constexpr int TILE = 2, PATCH = 4, ELEMENTS = PATCH * PATCH;
// Least channels on either side: below, transforms cost more than they save.
constexpr std::int64_t LEAST_CHANNELS = 32;
constexpr std::int64_t CHUNK_BYTES = 8 << 20;  // of all transformed tiles of a chunk

// Of the 16 matrices of transformed tiles [channels, tiles], or kernels [K, C]. Not a power of 2 apart: they would share
// a few lines of the cache.
template <typename T>
struct Elements {
  Elements(std::int64_t rows, std::int64_t columns)
      : columns(columns), step(rows * columns + LINE<T>), values(new T[ELEMENTS * step]) {}

  T* matrix(int element) const { return &values[element * step]; }
  T* row(std::int64_t number) const { return &values[number * columns]; }

  const std::int64_t columns, step;

 private:
  std::unique_ptr<T[]> values;
};

// The tiles as outputs of a 4x4 kernel with stride 2.
Geometry tiles_of(const Geometry& g) {
  const std::int64_t down = ceil_div(g.out_h(), TILE), across = ceil_div(g.out_w(), TILE);
  return {g.channels, TILE * down + TILE, TILE * across + TILE, g.out_channels, PATCH, PATCH, TILE, TILE, 0, 0};
}

bool is_winograd(const Geometry& g) {
  // What tiles compute beyond the edge of the map is lost.
  return g.dense_3x3() && std::min(g.channels, g.out_channels) >= LEAST_CHANNELS &&
         4 * ELEMENTS * tiles_of(g).out_pixels() <= 3 * 9 * g.out_pixels();
}

template <typename V>
inline void transform_input(V d[PATCH][PATCH], V out[PATCH][PATCH]) {
  V rows[PATCH][PATCH];
#pragma GCC unroll 4
  for (int x = 0; x < PATCH; ++x) {
    rows[0][x] = d[0][x] - d[2][x];
    rows[1][x] = d[1][x] + d[2][x];
    rows[2][x] = d[2][x] - d[1][x];
    rows[3][x] = d[1][x] - d[3][x];
  }
#pragma GCC unroll 4
  for (int y = 0; y < PATCH; ++y) {
    out[y][0] = rows[y][0] - rows[y][2];
    out[y][1] = rows[y][1] + rows[y][2];
    out[y][2] = rows[y][2] - rows[y][1];
    out[y][3] = rows[y][1] - rows[y][3];
  }
}

// B^T d B of tile rows [first, last) of a plane, to `to` and what is `step` apart from it.
template <int LANES, typename T>
void input_tiles(const Padded<T>& plane, std::int64_t first, std::int64_t last, std::int64_t across, T* to,
                 std::int64_t step) {
  for (std::int64_t r = first; r < last; ++r, to += across)
    cover<LANES>(across, [&](std::int64_t t) {
      Strip<T, LANES> d[PATCH][PATCH], out[PATCH][PATCH];
#pragma GCC unroll 4
      for (int y = 0; y < PATCH; ++y)
#pragma GCC unroll 4
        for (int x = 0; x < PATCH; ++x) d[y][x] = load_strip<LANES>(plane.tap_row(r, y, x) + t);
      transform_input(d, out);
#pragma GCC unroll 16
      for (int e = 0; e < ELEMENTS; ++e) store_strip<LANES, T>(to + e * step + t, out[e / PATCH][e % PATCH]);
    });
}

// A grad A^T likewise.
template <int LANES, typename T>
void gradient_tiles(const Padded<T>& plane, std::int64_t first, std::int64_t last, std::int64_t across, T* to,
                    std::int64_t step) {
  using V = Strip<T, LANES>;
  for (std::int64_t r = first; r < last; ++r, to += across)
    cover<LANES>(across, [&](std::int64_t t) {
      V half[PATCH][TILE];
#pragma GCC unroll 2
      for (int x = 0; x < TILE; ++x) {
        const V top = load_strip<LANES>(plane.tap_row(r, 0, x) + t);
        const V bottom = load_strip<LANES>(plane.tap_row(r, 1, x) + t);
        half[0][x] = top;
        half[1][x] = top + bottom;
        half[2][x] = top - bottom;
        half[3][x] = -bottom;
      }
#pragma GCC unroll 4
      for (int y = 0; y < PATCH; ++y) {
        T* row = to + y * PATCH * step + t;
        store_strip<LANES, T>(row, half[y][0]);
        store_strip<LANES, T>(row + step, half[y][0] + half[y][1]);
        store_strip<LANES, T>(row + 2 * step, half[y][0] - half[y][1]);
        store_strip<LANES, T>(row + 3 * step, -half[y][1]);
      }
    });
}

// A^T m A of `count` rows of tiles to rows of pixels `pitch` apart.
template <int LANES, typename T>
void output_tiles(const T* from, std::int64_t step, std::int64_t count, std::int64_t across, T* to,
                  std::int64_t pitch) {
  using V = Strip<T, LANES>;
  for (std::int64_t r = 0; r < count; ++r, from += across, to += TILE * pitch)
    cover<LANES>(across, [&](std::int64_t t) {
      V half[TILE][PATCH];
#pragma GCC unroll 4
      for (int x = 0; x < PATCH; ++x) {
        V m[PATCH];
#pragma GCC unroll 4
        for (int y = 0; y < PATCH; ++y) m[y] = load_strip<LANES>(from + (y * PATCH + x) * step + t);
        half[0][x] = m[0] + m[1] + m[2];
        half[1][x] = m[1] - m[2] - m[3];
      }
#pragma GCC unroll 2
      for (int y = 0; y < TILE; ++y) {
        const V even = half[y][0] + half[y][1] + half[y][2], odd = half[y][1] - half[y][2] - half[y][3];
        T* row = to + y * pitch + 2 * t;
        if constexpr (LANES == 1) {
          row[0] = even[0];
          row[1] = odd[0];
        } else {
          store_strip<LANES, T>(row, interleaved<LANES, false, T>(even, odd));
          store_strip<LANES, T>(row + LANES, interleaved<LANES, true, T>(even, odd));
        }
      }
    });
}

// G g G^T of weight [K, C, 3, 3], as 16 matrices [K, C].
template <typename T>
Elements<T> transformed_weight(const T* weight, const Geometry& g, int threads) {
  constexpr int LANES = WIDTH<T>, AREA = 9;
  using V = Strip<T, LANES>;
  Elements<T> out(g.out_channels, g.channels);
#pragma omp parallel for num_threads(threads) schedule(static)
  for (std::int64_t k = 0; k < g.out_channels; ++k)
    cover<LANES>(g.channels, [&](std::int64_t c) {
      const T* from = weight + (k * g.channels + c) * AREA;
      V kernel[AREA], half[PATCH][3];
      for (int i = 0; i < AREA; ++i)
        for (int lane = 0; lane < LANES; ++lane) kernel[i][lane] = from[lane * AREA + i];
      for (int x = 0; x < 3; ++x) {
        const V ends = (kernel[x] + kernel[6 + x]) * T(0.5), middle = kernel[3 + x] * T(0.5);
        half[0][x] = kernel[x];
        half[1][x] = ends + middle;
        half[2][x] = ends - middle;
        half[3][x] = kernel[6 + x];
      }
      for (int y = 0; y < PATCH; ++y) {
        const V ends = (half[y][0] + half[y][2]) * T(0.5), middle = half[y][1] * T(0.5);
        const V row[PATCH] = {half[y][0], ends + middle, ends - middle, half[y][2]};
        for (int x = 0; x < PATCH; ++x) store_strip<LANES, T>(out.matrix(y * PATCH + x) + k * g.channels + c, row[x]);
      }
    });
  return out;
}

// grad_weight = G^T sums G.
template <typename T>
void weight_gradient(const Elements<T>& sums, T* grad_weight, const Geometry& g) {
  constexpr int LANES = WIDTH<T>, AREA = 9;
  using V = Strip<T, LANES>;
#pragma omp for schedule(static)
  for (std::int64_t k = 0; k < g.out_channels; ++k)
    cover<LANES>(g.channels, [&](std::int64_t c) {
      V half[3][PATCH], kernel[AREA];
      for (int x = 0; x < PATCH; ++x) {
        V s[PATCH];
        for (int y = 0; y < PATCH; ++y) s[y] = load_strip<LANES>(sums.matrix(y * PATCH + x) + k * g.channels + c);
        const V plus = (s[1] + s[2]) * T(0.5), minus = (s[1] - s[2]) * T(0.5);
        half[0][x] = s[0] + plus;
        half[1][x] = minus;
        half[2][x] = plus + s[3];
      }
      for (int y = 0; y < 3; ++y) {
        const V plus = (half[y][1] + half[y][2]) * T(0.5), minus = (half[y][1] - half[y][2]) * T(0.5);
        kernel[3 * y] = half[y][0] + plus;
        kernel[3 * y + 1] = minus;
        kernel[3 * y + 2] = plus + half[y][3];
      }
      T* to = grad_weight + (k * g.channels + c) * AREA;
      for (int lane = 0; lane < LANES; ++lane)
        for (int i = 0; i < AREA; ++i) to[lane * AREA + i] = kernel[i][lane];
    });
}

// A batch in chunks of tiles, and what the threads share of it.
template <typename T>
struct Winograd {
  Winograd(std::int64_t batch, const Geometry& g)
      : g(g),
        tiles(tiles_of(g)),
        tiling(batch, tiles,
               std::max<std::int64_t>(CHUNK_BYTES / (ELEMENTS * (g.channels + g.out_channels) * sizeof(T)), 64)),
        inputs(g.channels, tiling.most_pixels),
        outputs(g.out_channels, tiling.most_pixels) {}

  // For each of `channels` of the chunk's images, shared among the threads: work(image of the batch, channel, where its
  // tiles are in a row of `elements`).
  template <typename Work>
  void for_planes(const Chunk<T>& chunk, std::int64_t channels, const Work& work) const {
#pragma omp for schedule(static) nowait
    for (std::int64_t p = 0; p < chunk.images * channels; ++p)
      work(chunk.image + p / channels, p % channels, p / channels * chunk.pixels());
  }

  // For a plane of the input, and one of the output's gradient.
  Padded<T> input_plane() const {
    return Padded<T>({1, g.height, g.width, 1, PATCH, PATCH, TILE, TILE, g.pad_h, g.pad_w});
  }
  Padded<T> gradient_plane() const { return Padded<T>({1, g.out_h(), g.out_w(), 1, TILE, TILE, TILE, TILE, 0, 0}); }

  void transform_inputs(const T* x, const Chunk<T>& chunk, Padded<T>& plane) const {
    for_planes(chunk, g.channels, [&](std::int64_t image, std::int64_t c, std::int64_t at) {
      plane.load_rows(x + (image * g.channels + c) * g.in_pixels(), TILE * chunk.first_row - g.pad_h,
                      TILE * (chunk.last_row + 1) - g.pad_h);
      with_lanes<T>(tiles.out_w(), [&](auto lanes) {
        input_tiles<lanes()>(plane, chunk.first_row, chunk.last_row, tiles.out_w(), inputs.row(c) + at, inputs.step);
      });
    });
  }

  void transform_gradients(const T* grad_output, const Chunk<T>& chunk, Padded<T>& plane) const {
    for_planes(chunk, g.out_channels, [&](std::int64_t image, std::int64_t k, std::int64_t at) {
      plane.load_rows(grad_output + (image * g.out_channels + k) * g.out_pixels(), TILE * chunk.first_row,
                      TILE * chunk.last_row);
      with_lanes<T>(tiles.out_w(), [&](auto lanes) {
        gradient_tiles<lanes()>(plane, chunk.first_row, chunk.last_row, tiles.out_w(), outputs.row(k) + at,
                                outputs.step);
      });
    });
  }

  void transform_outputs(const Chunk<T>& chunk, std::vector<T>& pixels, T* y) const {
    const std::int64_t pitch = TILE * tiles.out_w();
    for_planes(chunk, g.out_channels, [&](std::int64_t image, std::int64_t k, std::int64_t at) {
      with_lanes<T>(tiles.out_w(), [&](auto lanes) {
        output_tiles<lanes()>(outputs.row(k) + at, outputs.step, chunk.last_row - chunk.first_row, tiles.out_w(),
                              pixels.data(), pitch);
      });
      T* plane = y + (image * g.out_channels + k) * g.out_pixels();
      for (std::int64_t h = TILE * chunk.first_row; h < std::min(TILE * chunk.last_row, g.out_h()); ++h)
        std::copy_n(&pixels[(h - TILE * chunk.first_row) * pitch], g.out_w(), plane + h * g.out_w());
    });
  }

  const Geometry g, tiles;
  const Tiling tiling;
  const Elements<T> inputs, outputs;  // [channels, tiles]
};

// As `convolve`. With `flipped` weight is [C, K, 3, 3], and its kernels are turned by 180 degrees: in G g G^T that
// exchanges the first and last of rows and of columns.
template <typename T>
void convolve_winograd(const T* x, const T* weight, T* y, std::int64_t batch, const Geometry& g, bool flipped,
                       int threads) {
  const Winograd<T> own(batch, g);
  Geometry of_weight = g;
  if (flipped) std::swap(of_weight.channels, of_weight.out_channels);
  const Elements<T> kernels = transformed_weight(weight, of_weight, threads);
#pragma omp parallel num_threads(threads)
  {
    const SingleThreadedGemm single;
    Padded<T> plane = own.input_plane();
    std::vector<T> pixels(own.tiling.rows * TILE * TILE * own.tiles.out_w());
    for (std::int64_t c = 0; c < own.tiling.groups * own.tiling.pieces; ++c) {
      const Chunk<T> chunk = own.tiling.template chunk<T>(c / own.tiling.pieces, c % own.tiling.pieces);
      own.transform_inputs(x, chunk, plane);
#pragma omp barrier
#pragma omp for schedule(static)
      for (int e = 0; e < ELEMENTS; ++e) {
        const auto mirrored = [](int i) { return i % 3 ? i : 3 - i; };
        const int of_kernel = flipped ? mirrored(e / PATCH) * PATCH + mirrored(e % PATCH) : e;
        gemm<T>(ROW_MAJOR, flipped ? TRANS : NO_TRANS, NO_TRANS, g.out_channels, chunk.size(), g.channels, 1,
                kernels.matrix(of_kernel), kernels.columns, own.inputs.matrix(e), own.inputs.columns, 0,
                own.outputs.matrix(e), own.outputs.columns);
      }
      own.transform_outputs(chunk, pixels, y);
    }
  }
}

// As `backward_weight`.
template <typename T>
void backward_weight_winograd(const T* x, const T* grad_output, T* grad_weight, std::int64_t batch, const Geometry& g,
                              int threads) {
  const Winograd<T> own(batch, g);
  const Elements<T> sums(g.out_channels, g.channels);
#pragma omp parallel num_threads(threads)
  {
    const SingleThreadedGemm single;
    Padded<T> plane = own.input_plane(), gradients = own.gradient_plane();
    for (std::int64_t c = 0; c < own.tiling.groups * own.tiling.pieces; ++c) {
      const Chunk<T> chunk = own.tiling.template chunk<T>(c / own.tiling.pieces, c % own.tiling.pieces);
      own.transform_inputs(x, chunk, plane);
      own.transform_gradients(grad_output, chunk, gradients);
#pragma omp barrier
#pragma omp for schedule(static)
      for (int e = 0; e < ELEMENTS; ++e)
        gemm<T>(ROW_MAJOR, NO_TRANS, TRANS, g.out_channels, g.channels, chunk.size(), 1, own.outputs.matrix(e),
                own.outputs.columns, own.inputs.matrix(e), own.inputs.columns, c ? 1 : 0, sums.matrix(e), sums.columns);
    }
    weight_gradient(sums, grad_weight, g);
  }
}

}  // namespace
