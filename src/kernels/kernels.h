// The arithmetic: every kernel's contract. reference.cpp holds each as plain loops in double; one file per instruction set
// holds the fast forms, chosen once at start. Nothing above this folder knows how a weight is stored.
//
// The exact path computes in F32. Each output value depends on its own inputs alone, in one fixed order, so results are
// the same bits for any number of rows, threads, pages and for every instruction set:
//   dot(a, b) of length n: sixteen lanes, lane j adds a[k] * b[k] by fused multiply-add for k = j, j + 16, ... in order;
//   the lanes are then summed as a binary tree (8 + 8, 4 + 4, 2 + 2, 1 + 1).
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "base/profile.h"
#include "base/threads.h"
#include "sonde/result.h"
#include "tensor/tensor.h"
#include "tensor/types.h"

namespace sonde {

// --- instruction sets -------------------------------------------------------------------------------------------------
// The name of the table in use: "portable", "avx2", "avx512", "avx512_vnni", "avx512_bf16", "amx", "neon", "neon_dotprod".
std::string_view kernel_set();
// Names that this processor can run, slowest first.
std::vector<std::string_view> kernel_sets();
// One line where a better set, or the one that SONDE_ISA names, cannot be used; else empty.
std::string_view kernel_set_notice();
// Chooses another table (tests). Not while kernels run. An unknown or unavailable name is an error naming those that are.
Status choose_kernel_set(std::string_view name);

// --- linear algebra ---------------------------------------------------------------------------------------------------
// Rows [first, first + count) of w as F32, exactly: out [count, cols].
void unpack_rows(const Matrix& w, int64_t first, int64_t count, float* out);

// What is known of a row of values [n] beside them, sixteen by sixteen (the last block may have fewer): `most`, the largest of
// each block, NaN where one is not finite, and `total`, its sum of exp((x - most) * factor); none where the factor is 0.
inline constexpr int64_t kSummaryBlock = 16;
constexpr int64_t summary_blocks(int64_t n) { return (n + kSummaryBlock - 1) / kSummaryBlock; }
void summarise(const float* x, int64_t n, float factor, float* most, float* total);
// sum(exp((x - largest) * factor)) of all x, from their blocks, where `largest` is the largest of them all: within
// kSummaryError of itself for factors of 1e-3 to 1e3 and fewer than 2^32 values.
inline constexpr double kSummaryError = 2e-5;
double joined_total(const float* most, const float* total, int64_t blocks, float largest, float factor);
// A row and its blocks; `most` empty: nothing is known of them.
struct SummarisedRow {
  std::span<const float> x, most = {}, total = {};
};
// Where a product of m rows leaves those of its rows: factors [m], most and total [m, summary_blocks(w.rows)].
struct Summaries {
  const float* factors;
  float *most, *total;
};

// y[i, r] = dot(x[i], w[r]) (+ bias[r]): x [m, w.cols] with stride ldx, y [m, w.rows] with stride ldy; floats apart.
// A matrix with a packed form, or by_values, is multiplied in integers instead (body/strips.h, body/panels.h have the
// definition): each 32 values of x, and of a row by_values, are rounded to bytes, to 1/254 of their largest magnitude at worst;
// the same bits for any m, threads and instruction set. With one by_pairs x is rounded to BF16, and so is W where it is F16 or
// F32, where the instruction set has products of BF16 pairs (body/pairs.h, body/pair_tiles.h): the same bits for any m and
// threads. as_stored: either holds for a prompt's rows alone.
// A prompt's rows (Product::prompt) meet packed weights in another form, where the instruction set has one that is faster for
// many rows: with AMX weights and x rounded to BF16 (body/pair_weights.h), with AVX-512 VNNI some types rounded to 1/254 of
// the largest magnitude of 256 columns of a row (body/folded.h); the same bits for any m and threads.
void matmul(ThreadPool& pool, const Matrix& w, const float* x, int64_t m, int64_t ldx, float* y, int64_t ldy,
            const float* bias = nullptr);

// Several products at once, so that small ones share a fork-join (experts, q/k/v, gate and up). Each as matmul().
// With `up` (of w's shape): y = silu(x w^T) * (x up^T), silu(z) = z / (1 + exp(-z)), and no bias.
// With `rows`: row rows[i] of x stands for row i.
struct Product {
  Matrix w;
  const float* x;
  int64_t m, ldx;
  float* y;
  int64_t ldy;
  const float* bias = nullptr;
  Matrix up = {};
  const int32_t* rows = nullptr;
  int64_t prompt = 0;  // so many of the m rows, the last, are a prompt's
  bool fine = false;   // for which W may be rounded to BF16, but not to bytes
  // Not null: each thread summarises what it has just computed. Not with `up` or `prompt`.
  const Summaries* summaries = nullptr;
};
bool has_prompt_form(const Matrix& w);  // whether `prompt` makes a difference
void matmul(ThreadPool& pool, std::span<const Product> products);
// How p is multiplied.
Profile::Arithmetic arithmetic(const Product& p);

// dot() as defined above.
float dot(const float* a, const float* b, int64_t n);

// --- rows: x, y [m, n] contiguous --------------------------------------------------------------------------------------
// y = w * x / sqrt(mean(x^2) + eps), the sum of squares in double. y may be x. ldx, ldy: strides in floats.
void rms_norm(ThreadPool& pool, const float* x, int64_t ldx, const float* w, float eps, float* y, int64_t ldy, int64_t m, int64_t n);
// The same of one vector, on the calling thread.
void rms_norm(const float* x, const float* w, float eps, float* y, int64_t n);
// out = silu(gate) * up, silu(z) = z / (1 + exp(-z)); out may be gate.
void silu_mul(ThreadPool& pool, const float* gate, const float* up, float* out, int64_t count);
// y += a * x
void add_scaled(float* y, const float* x, float a, int64_t n);

// Rotary embedding of one head vector by the angles whose cosine and sine are given (double, n/2 of each).
// halves: (i, i + n/2) turn together, as in Llama and Qwen; else neighbours (2i, 2i+1), as in DeepSeek's MLA.
void rotate(float* x, const double* cosine, const double* sine, int64_t n, bool halves);
// The same in F32, for the fast path.
void rotate(float* x, const float* cosine, const float* sine, int64_t n, bool halves);
// Nearest BF16, ties to even; NaN stays NaN.
void to_bf16(const float* x, int64_t n, std::byte* out);

// --- attention ---------------------------------------------------------------------------------------------------------
// A token's record in the cache holds key_heads keys at key_offset and as many values at value_offset. Grouped-query
// attention: records [K heads | V heads]. Absorbed MLA: one key head (latent | rope) whose value is the latent itself.
// Expanded MLA: one key head per query head, in a contiguous scratch that looks like pages.
struct AttentionShape {
  int64_t heads;                      // query heads; head h uses key head h * key_heads / heads
  int64_t key_heads;
  int64_t key_dim, value_dim;         // values
  int64_t key_offset, value_offset;   // values from the start of a record to key head 0 and to value head 0
  int64_t key_stride, value_stride;   // values from one key head to the next
  int64_t record;                     // values from one token to the next inside a page
  int64_t page_tokens;                // tokens a page
  float scale;                        // multiplies the scores
  const Type* type = f32();           // of the records: F32 or BF16
};
struct AttentionRow {
  const float* q;                     // [heads, key_dim]
  float* out;                         // [heads, value_dim]
  const std::byte* const* pages;      // pages[p]: record of token p * page_tokens, in this layer
  int64_t length;                     // tokens 0 ... length - 1 are seen
};
// out_h = sum_s softmax_s(scale * dot(q_h, k_s)) v_s. Same bits for any rows beside it, any threads and pages.
// F32 records (exact): scores by dot(); the largest subtracted; exponentials and their sum in double or by a fixed F32
// order; values added in the order of the tokens. Same bits for every instruction set.
// BF16 records (fast): scale * q and the exponentials are rounded to BF16 as well; products are exact, sums in F32.
// Tokens are cut into segments of 256, counted from 0; each has its own softmax, and they are joined in order. A score
// errs by 2^-9 of scale * sum |q k| and a weight by 2^-9 of itself, beside F32's own error of sums so long.
void attention(ThreadPool& pool, const AttentionShape& shape, std::span<const AttentionRow> rows);

// --- vectors -----------------------------------------------------------------------------------------------------------
// In place: x = softmax(x), exponentials in F32 and their sum in double; x = 1 / (1 + exp(-x)).
void softmax(float* x, int64_t n);
void sigmoid(float* x, int64_t n);
// -infinity where n is 0. With NaN among them, one of the values.
float largest(const float* x, int64_t n);
// The first index whose value is `least` or above; n: none.
int64_t first_at_least(const float* x, int64_t n, float least);
// out: the indices of the k <= n largest, the largest first, the lowest index among equals; x is -infinity there after. With
// NaN among them, k different indices. For small k.
void top_k(float* x, int64_t n, int64_t k, int32_t* out);
// True when every value is finite.
bool all_finite(const float* x, int64_t n);

}  // namespace sonde
