// The engine's parts by themselves: pages, names of pages, plans, defaults.
#include <gtest/gtest.h>

#include <cstring>
#include <nlohmann/json.hpp>

#include "engine/defaults.h"
#include "engine/kv_pages.h"
#include "engine/plan.h"
#include "engine/prefix_cache.h"

namespace sonde {
namespace {

TEST(PagePool, GivesAndTakes) {
  auto pool = PagePool::create({.layers = 3, .record = 5}, 4);
  ASSERT_TRUE(pool.ok());
  PagePool& p = **pool;
  std::vector<PageId> taken;
  for (int i = 0; i < 4; ++i) taken.push_back(p.take());
  EXPECT_EQ(p.take(), kNoPage);
  const int64_t bytes = page_bytes({.layers = 3, .record = 5});
  for (PageId id : taken) std::memset(p.data(id), id, static_cast<std::size_t>(bytes));
  for (PageId id : taken) EXPECT_EQ(p.data(id)[bytes - 1], static_cast<std::byte>(id));
  p.retain(taken[1]);
  EXPECT_FALSE(p.drop(taken[1]));
  EXPECT_TRUE(p.drop(taken[1]));
  p.give_back(taken[1]);
  EXPECT_EQ(p.take(), taken[1]);
  p.copy(taken[0], taken[1]);
  EXPECT_EQ(p.data(taken[1])[100], static_cast<std::byte>(taken[0]));
  EXPECT_FALSE(PagePool::create({.layers = 3, .record = 5}, 0).ok());
  EXPECT_FALSE(PagePool::create({.layers = int64_t{1} << 30, .record = int64_t{1} << 20}, 1 << 30).ok());
}

TEST(PagePool, CommitsMemoryOnlyWhenItIsWritten) {
  const int64_t before = resident();
  auto pool = PagePool::create({.layers = 64, .record = 1024}, 1024);  // 8 GiB
  ASSERT_TRUE(pool.ok());
  (*pool)->data((*pool)->take())[0] = std::byte{1};
  EXPECT_LT(resident() - before, int64_t{64} << 20);
}

TEST(PageKey, DependsOnEveryTokenOnTheFormAndOnTheSalt) {
  std::vector<int32_t> ids(kPageTokens);
  const PageKey first = next_key(first_key(""), ids, 32);
  EXPECT_EQ(first, next_key(first_key(""), ids, 32));
  EXPECT_NE(first.bits, next_key(first_key(""), ids, 31).bits);
  EXPECT_EQ(first.tokens, next_key(first_key(""), ids, 31).tokens);
  EXPECT_NE(first.tokens, next_key(first_key("salt"), ids, 32).tokens);
  EXPECT_NE(next_key(first, ids, 32).bits, first.bits);
  for (int32_t& id : ids) {
    ++id;
    EXPECT_NE(next_key(first_key(""), ids, 32).tokens, first.tokens);
    --id;
  }
}

TEST(PrefixCache, PrefersPagesThatPrefillWrote) {
  auto pool = PagePool::create({.layers = 1, .record = 1}, 4);
  ASSERT_TRUE(pool.ok());
  PrefixCache cache(**pool, true);
  const std::vector<int32_t> ids(3 * kPageTokens, 7);
  const std::span page(ids.data(), kPageTokens);
  const PageId decoded = cache.allocate(), prefilled = cache.allocate();
  cache.keep(decoded, next_key(first_key(""), page, 0));
  const auto prefill = [](int64_t) { return 32; };
  EXPECT_EQ(cache.find("", ids, 2, false, prefill).size(), 1u);
  EXPECT_EQ(cache.find("", ids, 2, false, prefill)[0].page, decoded);
  EXPECT_TRUE(cache.find("", ids, 2, true, prefill).empty());
  cache.keep(prefilled, next_key(first_key(""), page, 32));
  EXPECT_EQ(cache.find("", ids, 2, false, prefill)[0].page, prefilled);
  EXPECT_TRUE(cache.find("", ids, 0, false, prefill).empty());
  cache.release(decoded), cache.release(prefilled);
  EXPECT_EQ(cache.available(), 4);
  // Kept pages give way to need, the one released first before the other.
  for (int i = 0; i < 3; ++i) EXPECT_NE(cache.allocate(), kNoPage);
  ASSERT_EQ(cache.find("", ids, 2, false, prefill).size(), 1u);
  EXPECT_EQ(cache.find("", ids, 2, false, prefill)[0].page, prefilled);
  EXPECT_NE(cache.allocate(), kNoPage);
  EXPECT_TRUE(cache.find("", ids, 2, false, prefill).empty());
  EXPECT_EQ(cache.allocate(), kNoPage);
}

PlanInput input(int64_t available) {
  ModelConfig config;
  config.vocab_size = 1000, config.hidden_size = 64, config.intermediate_size = 128, config.num_hidden_layers = 4;
  config.num_attention_heads = config.num_key_value_heads = 4, config.head_dim = 16;
  config.max_position_embeddings = 100000;
  return {config, {.layers = 4, .record = 128}, int64_t{1} << 30, 0, available};
}

TEST(Plan, TakesWhatTheModelWantsWhereThereIsRoom) {
  const auto plan = plan_memory(input(int64_t{64} << 30), {.max_batch = 2});
  ASSERT_TRUE(plan.ok());
  EXPECT_EQ(plan->context, 100000);
  EXPECT_EQ(plan->kv_bytes, 2 * 3125 * int64_t{4 * 32 * 128 * 4});
  EXPECT_TRUE(plan->fits);
  EXPECT_LT(plan->activation_bytes, int64_t{32} << 20);  // a small model does not need what a large vocabulary needs
  PlanInput half = input(int64_t{64} << 30);
  half.layout.type = bf16();
  const auto smaller = plan_memory(half, {.max_batch = 2});
  ASSERT_TRUE(smaller.ok());
  EXPECT_EQ(2 * smaller->kv_bytes, plan->kv_bytes);
  EXPECT_EQ(2 * smaller->kv_bytes_per_token, plan->kv_bytes_per_token);
}

TEST(Plan, ShortensTheContextWhereThereIsNot) {
  const auto plan = plan_memory(input((int64_t{1} << 30) + (int64_t{200} << 20)), {});
  ASSERT_TRUE(plan.ok());
  EXPECT_LT(plan->context, 100000);
  EXPECT_GT(plan->context, kLeastContext);
  EXPECT_LE(plan->total(), plan->available);
}

TEST(Plan, RefusesWhatCannotFitWithBothNumbers) {
  auto refused = plan_memory(input(int64_t{150} << 20), {.context = 100000});
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.error().code, Code::kTooLarge);
  EXPECT_NE(refused.error().found.find("204800000"), std::string::npos) << refused.error().message();
  EXPECT_FALSE(refused.error().expected.empty());
  refused = plan_memory(input(int64_t{64} << 30), {.context = 1024, .kv_bytes = 1 << 20});
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.error().code, Code::kTooLarge);
  EXPECT_FALSE(plan_memory(input(int64_t{64} << 30), {.context = 100001}).ok());
  EXPECT_FALSE(plan_memory(input(int64_t{64} << 30), {.context = -1}).ok());
}

TEST(Plan, SpeedIsWhatBinds) {
  const KvLayout layout{.layers = 10, .record = 100};  // 4000 bytes a token
  const Speed memory = expected_speed({.bytes = 1000000, .weights = 1000}, layout, 250, 1, {1e9, 1e12});
  EXPECT_DOUBLE_EQ(memory.decode, 500);
  EXPECT_TRUE(memory.memory_binds);
  const KvLayout half{.layers = 10, .record = 100, .type = bf16()};
  EXPECT_DOUBLE_EQ(expected_speed({.bytes = 1000000, .weights = 1000}, half, 500, 1, {1e9, 1e12}).decode, 500);
  const Speed arithmetic = expected_speed({.bytes = 1000, .weights = 1000000}, layout, 0, 4, {1e9, 1e9});
  EXPECT_DOUBLE_EQ(arithmetic.decode, 500);
  EXPECT_DOUBLE_EQ(arithmetic.prefill, 500);
  EXPECT_FALSE(arithmetic.memory_binds);
}

TEST(Defaults, FollowTheMakers) {
  const nlohmann::json none;
  EXPECT_EQ(default_sampling(none, "deepseek-r1").temperature, 0.6);
  EXPECT_EQ(default_sampling(none, "r1-distill-qwen").top_p, 0.95);
  EXPECT_EQ(default_sampling(none, "deepseek-v3-0324").temperature, 0.3);
  const auto qwen = default_sampling(
      nlohmann::json{
          {"do_sample", true}, {"temperature", 0.7}, {"top_p", 0.8}, {"top_k", 20}, {"repetition_penalty", 1.05}},
      "qwen2.5");
  EXPECT_EQ(qwen.temperature, 0.7);
  EXPECT_EQ(qwen.top_p, 0.8);
  EXPECT_EQ(qwen.top_k, 20);
  EXPECT_EQ(qwen.repetition_penalty, 1.05);
  EXPECT_EQ(default_sampling(nlohmann::json{{"temperature", 0.2}}, "").top_p, 1);
  EXPECT_EQ(default_sampling(nlohmann::json{{"do_sample", false}}, "").temperature, 0);
  EXPECT_EQ(default_sampling(nlohmann::json{{"temperature", -4}, {"top_p", "x"}, {"top_k", 1e300}}, "").temperature,
            0.6);
}

}  // namespace
}  // namespace sonde
