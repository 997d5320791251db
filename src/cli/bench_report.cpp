#include "cli/bench_report.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "cli/output.h"

namespace sonde {
namespace {

using Json = nlohmann::ordered_json;

double seconds_of(int64_t ns) { return static_cast<double>(ns) * 1e-9; }

// Seconds that its operations take at the peaks of their kinds.
double least_seconds(const Profile::Operation& o, const Peaks& peaks) {
  double seconds = 0;
  for (const auto kind : {Profile::kF32, Profile::kBf16, Profile::kInt8})
    seconds += 1e-9 * o.operations[kind] / peak_of(peaks, kind);
  return seconds;
}

// By time, the longest first; what lies outside of all comes last.
std::vector<Profile::Operation> sorted_operations(const Measurement& m) {
  std::vector<Profile::Operation> all = m.profile->operations();
  std::rotate(all.begin(), all.begin() + 1, all.end());
  std::sort(all.begin(), all.end() - 1,
            [](const auto& a, const auto& b) { return a.ns != b.ns ? a.ns > b.ns : a.name < b.name; });
  Profile::Operation& other = all.back();
  other.name = "other", other.ns = static_cast<int64_t>(m.seconds * 1e9);
  for (std::size_t i = 0; i + 1 < all.size(); ++i) other.ns -= all[i].ns;
  other.ns = std::max<int64_t>(other.ns, 0);
  return all;
}

double waiting_seconds(const Profile& profile) {
  double seconds = 0;
  for (const Profile::Operation& o : profile.operations()) seconds += seconds_of(o.waiting_ns);
  return seconds;
}

// Of threads for the last one, on average over them: milliseconds, and the share of the time.
std::string waiting_text(double waiting, double seconds) {
  return fmt::format("{:>10.2f} {:>4.1f} %", 1e3 * waiting, seconds > 0 ? 100 * waiting / seconds : 0);
}

// 10^9 in all, 10^9 a second, share of the peak.
std::string rate_text(double amount, double seconds, double share) {
  if (amount == 0 || seconds == 0) return fmt::format(" {:>10} {:>9} {:>7}", "", "", "");
  return fmt::format(" {:>10.3f} {:>9.2f} ({:>3.0f} %)", amount / 1e9, amount / seconds / 1e9, 100 * share);
}

void print_operations(const Measurement& m, const Peaks& peaks) {
  print(fmt::format("    {:<26} {:>8} {:>10} {:>6} {:>10} {:>6} {:>10} {:>9} {:>7} {:>10} {:>9} {:>7}\n", "operation",
                    "calls", "ms", "share", "waiting ms", "of it", "GB", "GB/s", "of peak", "Gop", "Gop/s", "of peak"));
  for (const Profile::Operation& o : sorted_operations(m)) {
    const double seconds = seconds_of(o.ns);
    std::string line = fmt::format("    {:<26} {:>8} {:>10.2f} {:>4.1f} % {}", o.name, o.calls, 1e3 * seconds,
                                   100 * seconds / m.seconds, waiting_text(seconds_of(o.waiting_ns), seconds));
    line += rate_text(o.bytes, seconds, o.bytes / seconds / 1e9 / peaks.dram_read_gbs);
    line += rate_text(o.all_operations(), seconds, least_seconds(o, peaks) / seconds);
    line.erase(line.find_last_not_of(' ') + 1);
    print(line + "\n");
  }
  print(fmt::format("    {:<26} {:>8} {:>10.2f} {:>4.0f} % {}\n\n", "all", "", 1e3 * m.seconds, 100.0,
                    waiting_text(waiting_seconds(*m.profile), m.seconds)));
}

}  // namespace

double peak_of(const Peaks& peaks, Profile::Arithmetic arithmetic) {
  if (arithmetic == Profile::kInt8) return peaks.int8_gops;
  return arithmetic == Profile::kBf16 && peaks.bf16_gflops > 0 ? peaks.bf16_gflops : peaks.fma_gflops;
}

std::string_view name_of(Profile::Arithmetic arithmetic) {
  constexpr std::string_view kNames[] = {"fp32", "bf16", "int8"};
  return kNames[arithmetic];
}

void print_heading() {
  print(fmt::format("{:<8} {:>5} {:>7} {:>10} {:>9} {:>7} {:>9} {:>7}\n", "", "batch", "depth", "tokens/s", "GB/s",
                    "of peak", "Gop/s", "of peak"));
  flush();
}

void print_row(const Measurement& m) {
  const Peaks peaks = m.peaks();
  const auto [least, most] = std::minmax({m.before.dram_read_gbs, m.after.dram_read_gbs});
  std::string notes;
  // Where something took the processors away meanwhile. Steps of a prompt differ by what they do.
  const double pace = m.seconds / static_cast<double>(m.steps.size()) / m.step_seconds(0.5);
  if (m.what == std::string_view("decode") && m.steps.size() > 8) {
    notes += fmt::format("  {:.0f} % of what memory gave on average", 100 * m.gbs() / peaks.dram_mean_gbs);
    if (pace > 1.02)
      notes += fmt::format("; median step: {:.2f} tokens/s, {:.0f} % of DRAM", m.rate() * pace, 100 * pace * m.gbs() / peaks.dram_read_gbs);
  }
  if (most > 1.1 * least)
    notes += fmt::format("  memory went from {:.0f} to {:.0f} GB/s", m.before.dram_read_gbs, m.after.dram_read_gbs);
  if (m.chunk > 0) notes += fmt::format("  steps of {}: {:.0f} ms", m.chunk, 1e3 * m.step_seconds(0.5));
  if (m.of_plain > 0) notes += fmt::format("  --reproducible: {:.0f} % of the speed above", 100 * m.of_plain);
  print(fmt::format("{:<8} {:>5} {:>7} {:>10.2f} {:>9.2f} ({:>3.0f} %) {:>9.1f} ({:>3.0f} % of {}){}\n", m.what, m.batch, m.depth,
                    m.rate(), m.gbs(), 100 * m.gbs() / peaks.dram_read_gbs, m.gflops(),
                    100 * m.gflops() / peak_of(peaks, m.arithmetic), name_of(m.arithmetic), notes));
  if (m.profile) print_operations(m, peaks);
  flush();
}

Json to_json(const Measurement& m) {
  const Peaks peaks = m.peaks();
  Json json = {{"what", m.what},
               {"batch", m.batch},
               {"depth", m.depth},
               {"reproducible", m.one_form},
               {"tokens", m.tokens},
               {"seconds", m.seconds},
               {"step_seconds", {{"p10", m.step_seconds(0.1)}, {"p50", m.step_seconds(0.5)}, {"p90", m.step_seconds(0.9)}}},
               {"tokens_per_second", m.rate()},
               {"arithmetic", name_of(m.arithmetic)},  // of most operations
               {"gb_per_second", m.gbs()},
               {"gflop_per_second", m.gflops()},
               {"dram_read_gb_per_second", {m.before.dram_read_gbs, m.after.dram_read_gbs}},
               {"dram_mean_gb_per_second", {m.before.dram_mean_gbs, m.after.dram_mean_gbs}},
               {"of_dram_peak", m.gbs() / peaks.dram_read_gbs},
               {"of_dram_mean", m.gbs() / peaks.dram_mean_gbs},
               {"of_fma_peak", m.gflops() / peaks.fma_gflops},
               {"of_int8_peak", m.gflops() / peaks.int8_gops}};
  if (peaks.bf16_gflops > 0) json["of_bf16_peak"] = m.gflops() / peaks.bf16_gflops;
  if (m.chunk > 0) json["chunk"] = m.chunk;
  if (m.of_plain > 0) json["of_plain_speed"] = m.of_plain;
  if (!m.profile) return json;
  json["waiting_seconds"] = waiting_seconds(*m.profile);
  for (const Profile::Operation& o : sorted_operations(m)) {
    const double seconds = seconds_of(o.ns), inverse = o.ns > 0 ? 1 / seconds : 0;
    json["operations"].push_back({{"name", o.name},
                                  {"calls", o.calls},
                                  {"seconds", seconds},
                                  {"share", seconds / m.seconds},
                                  {"waiting_seconds", seconds_of(o.waiting_ns)},
                                  {"waiting_share", seconds_of(o.waiting_ns) * inverse},
                                  {"bytes", o.bytes},
                                  {"flops", o.operations[Profile::kF32] + o.operations[Profile::kBf16]},
                                  {"int8_operations", o.operations[Profile::kInt8]},
                                  {"gb_per_second", 1e-9 * o.bytes * inverse},
                                  {"gop_per_second", 1e-9 * o.all_operations() * inverse},
                                  {"of_dram_peak", 1e-9 * o.bytes * inverse / peaks.dram_read_gbs},
                                  {"of_compute_peak", least_seconds(o, peaks) * inverse}});
  }
  return json;
}

}  // namespace sonde
