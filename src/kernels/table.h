// What one instruction set offers. isa/NAME.cpp fills a table and says in NAME::kSet where it runs; dispatch.cpp chooses one
// at start. Files in isa/ and body/ are compiled with their own machine flags, so they must not emit code that others could
// link to: they use no std:: function and no inline function from outside their own namespace (kernels_test checks the objects).
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/cpu.h"
#include "kernels/kernels.h"

namespace sonde::kernels {

using Unpack = void (*)(const std::byte*, int64_t, float*);

// One product y = x W^T + bias, everything spelled out: W [rows, cols] in blocks of `block` values and `block_bytes` bytes.
struct MatmulTask {
  int type;  // index in all_types()
  Unpack unpack;
  const std::byte* data;
  int64_t rows, cols, row_bytes;
  int64_t block, block_bytes;
  const std::byte* scales;  // FP8 blocks; null: none
  Unpack unpack_scale;
  int64_t scale_bytes, scale_block, scale_cols;
  const float* x;
  int64_t m, ldx;
  float* y;
  int64_t ldy;
  const float* bias;
  int64_t first = 0;  // row of W that y begins with
};

// x of a product as it is multiplied: rounded to bytes, in the layout of body/strips.h, or to BF16.
struct StripInput {
  const float* x;       // [m, cols], stride ldx; beyond cols, up to a multiple of 32: zeros
  const int32_t* rows;  // of x; null: as they stand
  int64_t m, ldx, cols;
  int zero, halves;  // of the type of W
  bool min;
  bool pairs;      // BF16 instead, for body/pairs.h, body/pair_tiles.h
  std::byte* out;  // m * ceil(cols / 32) * (36 + 4 * halves) bytes; of pairs: (m + (m - 1) / 16) * ceil(cols / 32) * 64
};
// y = x W^T + bias, or silu(x W^T) * (x up^T): W and up in strips of the same type.
struct StripTask {
  const std::byte* w;
  const std::byte* up;  // null: none
  int64_t rows, blocks, strip_bytes;  // blocks of a row; bytes of sixteen rows
  const std::byte* x;                 // StripInput::out
  int64_t m;
  float* y;
  int64_t ldy;
  const float* bias;
  // Of so few tokens that w is read once, in two runs of memory: strip i stands for i and second + (i + turn) % (strips -
  // second), too, as long as i is below strips - second (second 0: for itself; up is the other run). `then`: what is read
  // after the last strips of both runs; null: not known.
  int64_t second = 0, turn = 0;
  const std::byte* then[2] = {nullptr, nullptr};
};
struct StripType {
  int bytes = 0;  // of sixteen rows of one block; 0: the type has no such form
  int zero = 128, halves = 1;
  bool min = false;
  bool (*pack)(const std::byte* const* rows, int64_t blocks, std::byte* out) = nullptr;  // false: a scale is not finite
  void (*multiply)(const StripTask& task, int64_t begin, int64_t end) = nullptr;         // strips
  // Of a prompt's rows, by another definition; scratch: KernelTable::prompt_scratch. Null: by multiply.
  void (*prompt)(const StripTask& task, int64_t begin, int64_t end, float* scratch) = nullptr;
  // x of those rows: as pairs (body/pair_tiles.h), or bytes with zero 128, one half, no minimum (body/folded.h).
  bool prompt_by_pairs = false;
};

// y = x W^T + bias, or silu(x W^T) * (x up^T), from values rounded to bytes (body/panels.h).
struct PanelTask {
  MatmulTask w, up;    // type, data, rows, cols, scales; up without data: none
  const std::byte* x;  // StripInput::out
  int64_t m;
  float* y;
  int64_t ldy;
  const float* bias;
};

// y = x W^T + bias, or silu(x W^T) * (x up^T), over pairs of BF16 (body/pairs.h, body/pair_tiles.h): W and up [rows, cols] as
// stored, one as the other; F16 and F32 are rounded to BF16.
struct PairTask {
  enum Stored { kBf16, kF16, kF32 };
  const std::byte* w;
  int64_t rows, cols, row_bytes;
  const std::byte* x;  // StripInput::out
  int64_t m;
  float* y;
  int64_t ldy;
  const float* bias;
  const std::byte* up = nullptr;  // null: none
  Stored stored = kBf16;
};

// C = op(A) op(B), or C += (kernels/gemm.h). Both operands as rows of k values: op(A) [m, k], op(B)^T [n, k].
struct GemmOperand {
  const float* at;
  int64_t rows, cols, ld;
  bool across;  // value (r, k) stands at [k * ld + r], not at [r * ld + k]
};
struct GemmTask {
  GemmOperand a, b;
  float* c;  // [a.rows, b.rows], stride ldc
  int64_t ldc;
  bool accumulate;
  std::byte* packed;  // op(A), as GemmForm::pack leaves it
};
// Rows and columns of C; bounds are multiples of 16, but for the last.
struct GemmPart { int64_t row, row_end, column, column_end; };
struct GemmForm {
  int64_t (*packed_bytes)(const GemmOperand& a);  // 0: op(A) is read where it is
  void (*pack)(const GemmTask& task, int64_t row, int64_t row_end, float* scratch);
  void (*multiply)(const GemmTask& task, const GemmPart& part, float* scratch);
  int64_t (*scratch)(const GemmTask& task, int64_t rows, int64_t columns);  // floats, for either
};

// Queries rows[0 ... row_count) x heads [head, head + head_count): all share one key head and one list of pages.
struct AttentionTask {
  const AttentionShape* shape;
  const AttentionRow* rows;
  int64_t row_count, head, head_count;
};
// Where a segment stands among those that a thread goes through. same_task: scratch is as the last call left it, for another
// segment of the task; goes_on: the next segment of the task comes next.
struct SegmentRun { bool same_task, goes_on; };
inline constexpr int64_t kAttentionQueries = 48;  // most queries in a task
inline constexpr int64_t kKeyBlock = 64;          // softmax runs online over blocks of so many tokens, counted from token 0

// The same over BF16 records (body/segment.h): segments of kSegment tokens, each with a softmax of its own.
inline constexpr int64_t kSegment = 256;
inline constexpr int64_t kSegmentQueries = 96;  // most queries in a task: so many share one rearranged key
// What a query knows of some segments: the largest score, the sum of exponentials below it, then the sum of values
// times them, not yet divided: value_dim floats, padded.
inline constexpr int64_t kPartHeader = 16;
constexpr int64_t part_floats(int64_t value_dim) { return kPartHeader + (value_dim + 63) / 64 * 64; }

struct KernelTable {
  const char* name;
  bool wide = false;  // registers of 512 bits
  const Unpack* unpack;  // by index in all_types()
  float (*dot)(const float* a, const float* b, int64_t n);
  // Rows [begin, end) of the task; scratch: matmul_scratch(m, cols) floats, aligned.
  void (*matmul)(const MatmulTask& task, int64_t begin, int64_t end, float* scratch);
  int64_t (*matmul_scratch)(int64_t m, int64_t cols);
  int64_t matmul_grain;  // rows that a thread should take at once when m is large
  const StripType* strips;  // by index in all_types()
  void (*round_tiles)(const StripInput& in, int64_t begin, int64_t end);
  int64_t (*tile_count)(int64_t m);
  int64_t (*panel_bytes)(int64_t cols);  // scratch for each strip of w and of up
  void (*fill_panel)(const MatmulTask& w, int64_t strip, std::byte* out);
  void (*panels)(const PanelTask& task, int64_t begin, int64_t end, std::byte* scratch);  // strips
  // BF16 weights; null: the set has no products of pairs.
  int64_t (*pair_parts)(const StripInput& in);                            // of x, as round_pairs counts them
  void (*round_pairs)(const StripInput& in, int64_t begin, int64_t end);  // parts
  void (*pairs)(const PairTask& task, int64_t begin, int64_t end, float* scratch);  // rows; multiples of 16 but for the last
  int64_t (*pair_scratch)(int64_t m, int64_t cols) = nullptr;  // floats
  bool pair_tiles = false;                                     // pairs go by matrix tiles
  int64_t (*prompt_scratch)(int64_t m) = nullptr;  // floats, of StripType::prompt
  const GemmForm* gemm = nullptr;                  // null: by matmul, or pairs (gemm.cpp)
  void (*attention)(const AttentionTask& task, float* scratch);
  int64_t (*attention_scratch)(const AttentionShape& shape);
  // Of the queries that see one of the segment's tokens: part [row_count * head_count][part_floats].
  void (*attention_segment)(const AttentionTask& task, int64_t segment, SegmentRun run, float* part, float* scratch);
  int64_t (*segment_scratch)(const AttentionShape& shape);
  // Joins the next segment to those before; begin with -infinity, 0, zeros.
  void (*join_part)(float* whole, const float* part, int64_t value_dim);
  void (*finish_part)(const float* whole, float* out, int64_t value_dim);
  void (*to_bf16)(const float* x, int64_t n, uint16_t* out);
  void (*rotate)(float* x, const float* cosine, const float* sine, int64_t n, bool halves);
  void (*rotate_exact)(float* x, const double* cosine, const double* sine, int64_t n, bool halves);
  void (*rms_norm)(const float* x, const float* w, float eps, float* y, int64_t n);
  void (*silu_mul)(const float* gate, const float* up, float* out, int64_t n);
  void (*add_scaled)(float* y, const float* x, float a, int64_t n);
  void (*softmax)(float* x, int64_t n);
  void (*sigmoid)(float* x, int64_t n);
  float (*largest)(const float* x, int64_t n);
  int64_t (*first_at_least)(const float* x, int64_t n, float least);
  void (*top_k)(float* x, int64_t n, int64_t k, int32_t* out);
  void (*summarise)(const float* x, int64_t n, float factor, float* most, float* total);
  double (*joined_total)(const float* most, const float* total, int64_t blocks, float largest, float factor);
  // Peaks: independent chains in registers, the operations done; a result and a sum, so that nothing can be dropped.
  int64_t (*fma_burst)(int64_t rounds, float* result);
  int64_t (*int8_burst)(int64_t rounds, float* result);
  int64_t (*bf16_burst)(int64_t rounds, float* result) = nullptr;  // null: no products of BF16 pairs
  float (*read_all)(const float* data, int64_t n);
};

// How this processor likes memory that is read once: fetched past the caches; in two runs at once by each thread (an Intel
// Xeon read 34 GB/s so between products, 30 in one run; a Zen 4 is faster in one); through registers of 256 bits where it has
// wider ones (that Xeon: 2 to 5 % faster). Tests try either; results are the same.
struct ReadOnce { bool past_caches, two_runs, narrow; };
extern ReadOnce read_once;
// The strips that multiply a single token as read_once says: of the table in use, or of a narrower set.
const StripType* strips_of_one_token();

// NAME::kSet of isa/NAME.cpp. That file is compiled with its lines `// flags FAMILY: ...`, for processors of that family alone
// (x86_64, aarch64, or any; `FAMILY GNU`: further ones, by that compiler).
struct InstructionSet {
  const char* name;  // NAME
  int order;         // of preference: where several run, the one with the largest serves
  bool (*runs)(const CpuFeatures&);
  // below: the set of lower order that would serve here, null for the first; what a set does not do better it takes from there.
  const KernelTable& (*table)(const KernelTable* below, const CpuFeatures&);
  bool tried = false;  // same_products(below, this) first, in a child process at the start
  // Where the system keeps from us what the processor has: a line for the user, else null.
  const char* (*refused)(const CpuFeatures&) = nullptr;
};
std::span<const InstructionSet* const> instruction_sets();  // of this family of processors, by order
const KernelTable* table_named(std::string_view name);      // null: none that runs here

const KernelTable& table();  // the one in use
void use_table(const KernelTable& table);
// Whether both give the same bits: a strip of every type, times tokens for more than one tile. And whether those of them
// that multiply pairs of BF16 do it rightly, where no sum is rounded.
bool same_products(const KernelTable& a, const KernelTable& b);

// attention() over BF16 records.
void attention_bf16(ThreadPool& pool, const AttentionShape& shape, std::span<const AttentionRow> rows);

}  // namespace sonde::kernels
