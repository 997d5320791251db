// Speed of the kernels beside the machine's own peaks:
//   kernels_bench [TYPES] [ROWSxCOLS,...] [M,...] [THREADS] [attention,gemm,packed,prompt,gated]
//   e.g. kernels_bench BF16,Q4_K 1536x8960 1,8,512 2; kernels_bench "" "" "" 2 gemm; kernels_bench Q4_K 8960x1536 1,2,8 1 packed
// Weights are multiplied as the exact path does; `packed`: as the fast path does, packed where their type has that form, and beside
// each number of tokens how many times the first one's time it takes; `prompt`: these are a prompt's. `gated`: of gate and up.
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <string>
#include <vector>

#include "base/cpu.h"
#include "base/memory.h"
#include "base/random.h"
#include "kernels/gemm.h"
#include "kernels/kernels.h"
#include "kernels/pack.h"
#include "kernels/peaks.h"
#include "tensor/types.h"

namespace {

using namespace sonde;

std::vector<std::string> words(const std::string& list) {
  std::vector<std::string> result(1);
  for (char c : list) {
    if (c == ',') result.emplace_back();
    else result.back() += c;
  }
  return result;
}

double now() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

// Least seconds of a call, over about a third of a second: what others do on the machine only ever adds.
template <class F>
double time_of(F&& f) {
  f();
  double best = 1e9;
  int calls = 0;
  for (const double end = now() + 0.35; now() < end || calls < 3; ++calls) {
    const double start = now();
    f();
    best = std::min(best, now() - start);
  }
  return best;
}

struct Ways { bool packed, prompt, gated; };

void bench_matmul(ThreadPool& pool, const Peaks& peaks, const Type& type, int64_t rows, int64_t cols, const std::vector<int64_t>& ms,
                  Ways ways) {
  if (type.unpack == nullptr || cols % type.block != 0) return;
  // Several copies, so that few tokens read memory and not the cache.
  const int64_t bytes = rows * type.row_bytes(cols), copies = std::max<int64_t>(2, (int64_t{192} << 20) / bytes);
  AlignedVector<std::byte> data(std::size_t(bytes * copies));
  Random random(1);
  if (type.pack != nullptr) {
    std::vector<float> row(static_cast<std::size_t>(cols));
    for (int64_t r = 0; r < rows * copies; ++r) {
      for (float& value : row) value = float(random.next_u32()) * 0x1p-32f - 0.5f;
      type.pack(row.data(), cols / type.block, data.data() + r * type.row_bytes(cols));
    }
  } else {
    for (std::byte& b : data) b = std::byte(random.next_u32() & 0x3f);
  }
  const bool fp8 = type.is_float() && type.bytes == 1;
  const std::vector<float> scales(std::size_t((rows + 127) / 128 * ((cols + 127) / 128)), 0.5f);
  std::vector<Matrix> w(static_cast<std::size_t>(copies));
  AlignedVector<std::byte> strips;
  for (int64_t copy = 0; copy < copies; ++copy) {
    Matrix& m = w[std::size_t(copy)];
    m = {&type, data.data() + copy * bytes, rows, cols, type.row_bytes(cols)};
    if (fp8) m.scales = reinterpret_cast<const std::byte*>(scales.data()), m.scale_type = f32(), m.scale_cols = (cols + 127) / 128;
    if (!ways.packed) continue;
    const int64_t packed_size = packed_bytes(m);
    m.by_pairs = &type == bf16() || &type == f16() || &type == f32();
    m.by_values = packed_size == 0 && type.bytes < 2 * type.block, m.as_stored = type.is_float() && &type != bf16();
    if (packed_size == 0) continue;
    if (strips.empty()) strips.resize(std::size_t(packed_size * copies));
    std::byte* const to = strips.data() + copy * packed_size;
    if (const Status done = pack_rows(pool, m, 0, rows, to); !done.ok()) {
      fmt::print("{}: {}\n", type.name, done.error().message());
      return;
    }
    use_packed(m, to);
  }
  double first = 0;
  for (int64_t m : ms) {
    AlignedVector<float> x(std::size_t(m * cols), 0.5f), y(std::size_t(m * rows));
    std::size_t copy = 0;
    Product product{.w = w[0], .x = x.data(), .m = m, .ldx = cols, .y = y.data(), .ldy = rows, .prompt = ways.prompt ? m : 0};
    const auto take = [&] { return w[copy++ % w.size()]; };
    const double seconds = time_of([&] {
      product.w = take();
      if (ways.gated) product.up = take();
      matmul(pool, std::span(&product, 1));
    });
    if (first == 0) first = seconds;
    const Profile::Arithmetic kind = arithmetic(product);
    const double peak = kind == Profile::kInt8 ? peaks.int8_gops : kind == Profile::kBf16 ? peaks.bf16_gflops : peaks.fma_gflops;
    const double matrices = ways.gated ? 2 : 1, read = matrices * double(bytes), work = matrices * 2 * double(rows * cols * m);
    const double gbs = 1e-9 * read / seconds, gflops = 1e-9 * work / seconds;
    const double bound = std::max(read / peaks.dram_read_gbs, work / peak) * 1e-9;
    fmt::print("{:8} {:>6}x{:<6} m {:<4} {:9.1f} us {:7.2f} GB/s {:8.2f} Gop/s {:7.2f} Gweights/s {:5.0f} % of what binds {:6.2f} times\n",
               type.name, rows, cols, m, seconds * 1e6, gbs, gflops, gflops / 2 / double(m), 100 * bound / seconds, seconds / first);
  }
}

void bench_attention(ThreadPool& pool, const Peaks& peaks, const char* name, AttentionShape s, int64_t tokens, int64_t rows) {
  const std::vector<float> values(std::size_t(tokens * s.record), 0.1f);
  std::vector<float> q(std::size_t(rows * s.heads * s.key_dim), 0.1f);
  AlignedVector<std::byte> records(std::size_t(tokens * s.record * s.type->bytes));
  s.type->pack(values.data(), tokens * s.record, records.data());
  std::vector<float> out(std::size_t(rows * s.heads * s.value_dim));
  std::vector<const std::byte*> pages;
  for (int64_t t = 0; t < tokens; t += s.page_tokens) pages.push_back(records.data() + t * s.record * s.type->bytes);
  std::vector<AttentionRow> work;
  double seen = 0;
  for (int64_t i = 0; i < rows; ++i) {
    work.push_back({q.data() + i * s.heads * s.key_dim, out.data() + i * s.heads * s.value_dim, pages.data(), tokens - rows + 1 + i});
    seen += double(work.back().length);
  }
  const double seconds = time_of([&] { attention(pool, s, work); });
  const double gflops = 2e-9 * seen * double(s.heads * (s.key_dim + s.value_dim)) / seconds;
  const bool half = s.type == bf16() && peaks.bf16_gflops > 0;
  fmt::print("{:24} {:4} rows {:<5} tokens {:<6} {:10.1f} us {:8.2f} GFLOP/s {:5.0f} % of {}\n", name, s.type->name, rows, tokens,
             seconds * 1e6, gflops, 100 * gflops / (half ? peaks.bf16_gflops : peaks.fma_gflops), half ? "BF16 dot" : "FMA");
}

// The three products of a layer in training, and the fourth form.
void bench_gemm(ThreadPool& pool, const Peaks& peaks, int64_t m, int64_t n, int64_t k) {
  const AlignedVector<float> a(std::size_t(m * k), 0.5f), b(std::size_t(k * n), 0.5f);
  AlignedVector<float> c(std::size_t(m * n));
  const bool pairs = gemm_arithmetic() == Profile::kBf16;
  for (const char* form : {"NT", "NN", "TN", "TT"}) {
    const bool trans_a = form[0] == 'T', trans_b = form[1] == 'T';
    for (bool accumulate : {false, true}) {
      const Gemm g{a.data(), b.data(), c.data(), m, n, k, trans_a ? m : k, trans_b ? k : n, n, trans_a, trans_b, accumulate};
      const double seconds = time_of([&] { gemm(pool, g); });
      const double gflops = 2e-9 * double(m * n * k) / seconds, peak = pairs ? peaks.bf16_gflops : peaks.fma_gflops;
      fmt::print("gemm {} {:2} {:>5}x{}x{} {:10.1f} us {:8.2f} GFLOP/s {:5.0f} % of {}\n", form, accumulate ? "+=" : "=",
                 m, n, k, seconds * 1e6, gflops, 100 * gflops / peak, pairs ? "BF16 dot" : "FMA");
    }
  }
}

}  // namespace

int main(int argc, char** argv) {
  const auto argument = [&](int i, const char* fallback) { return std::string(argc > i ? argv[i] : fallback); };
  ThreadPool pool(std::stoi(argument(4, "0")));
  const ThreadPool::Awake awake(pool);
  const Peaks peaks = measure_peaks(pool, 2);
  fmt::print("{}, {} kernels, {} threads\npeaks: DRAM read {:.1f} GB/s, FP32 FMA {:.1f} GFLOP/s, int8 dot {:.1f} GOP/s, BF16 dot {:.1f} GFLOP/s\n",
             cpu_name(), kernel_set(), pool.size(), peaks.dram_read_gbs, peaks.fma_gflops, peaks.int8_gops, peaks.bf16_gflops);
  std::vector<int64_t> ms;
  for (const std::string& m : words(argument(3, "1,8,512"))) {
    if (!m.empty()) ms.push_back(std::stoll(m));
  }
  const std::vector<std::string> others = words(argument(5, "attention,gemm"));
  const auto wanted = [&](const char* name) { return std::find(others.begin(), others.end(), name) != others.end(); };
  for (const std::string& name : words(argument(1, "F32,F16,BF16,F8_E4M3,Q4_0,Q8_0,Q4_K,Q6_K"))) {
    const Type* type = type_by_name(name);
    if (type == nullptr) continue;
    for (const std::string& shape : words(argument(2, "1536x8960,8960x1536,256x1536"))) {
      const std::size_t by = shape.find('x');
      bench_matmul(pool, peaks, *type, std::stoll(shape.substr(0, by)), std::stoll(shape.substr(by + 1)), ms,
                   {wanted("packed"), wanted("prompt"), wanted("gated")});
    }
  }
  AttentionShape grouped{12, 2, 128, 128, 0, 256, 128, 128, 512, 64, 0.1f};
  AttentionShape latent{16, 1, 576, 512, 0, 0, 0, 0, 576, 64, 0.1f};
  AttentionShape expanded{16, 16, 192, 128, 0, 192, 320, 320, 5120, 4096, 0.1f};
  if (wanted("gemm")) {
    bench_gemm(pool, peaks, 512, 2048, 2048);
    bench_gemm(pool, peaks, 2048, 2048, 512);
    bench_gemm(pool, peaks, 2048, 2048, 2048);
  }
  if (!wanted("attention")) return 0;
  for (const Type* type : {f32(), bf16()}) {
    for (int64_t tokens : {512, 4096}) {
      grouped.type = latent.type = expanded.type = type;
      bench_attention(pool, peaks, "grouped 12/2 heads", grouped, tokens, 1);
      bench_attention(pool, peaks, "grouped 12/2 heads", grouped, tokens, 32);
      bench_attention(pool, peaks, "grouped 12/2 heads", grouped, tokens, 512);
      bench_attention(pool, peaks, "absorbed MLA 16 heads", latent, tokens, 1);
      bench_attention(pool, peaks, "absorbed MLA 16 heads", latent, tokens, 32);
      bench_attention(pool, peaks, "expanded MLA 16 heads", expanded, tokens, 32);
      bench_attention(pool, peaks, "expanded MLA 16 heads", expanded, tokens, 512);
    }
  }
  return 0;
}
