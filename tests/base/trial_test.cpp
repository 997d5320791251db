#include "base/trial.h"

#include <gtest/gtest.h>

#include <csignal>

namespace sonde {
namespace {

TEST(Trial, WhatEndsTheChildEndsNothingElse) {
  EXPECT_TRUE(survives([] { return true; }));
  EXPECT_FALSE(survives([] { return false; }));
  EXPECT_FALSE(survives([] { return std::raise(SIGILL) == 0; }));
  EXPECT_FALSE(survives([]() -> bool { __builtin_trap(); }));
}

TEST(Trial, ForgetsWhatTheChildDid) {
  int here = 1;
  EXPECT_TRUE(survives([&] { return ++here == 2; }));
  EXPECT_EQ(here, 1);
}

}  // namespace
}  // namespace sonde
