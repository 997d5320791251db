// Where the engine's thread leaves what an answer has grown by, and the caller picks it up.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>

#include "sonde/engine.h"

namespace sonde {

// Wakes the engine's thread; outlives the engine when streams do.
class Bell {
 public:
  void ring();
  void wait();  // returns at once when it was rung since the last wait

 private:
  std::mutex mutex_;
  std::condition_variable rung_;
  bool ringing_ = false;
};

class Channel {
 public:
  explicit Channel(std::shared_ptr<Bell> bell) : bell_(std::move(bell)) {}

  // Engine's side: copies an event; what the caller has not yet fetched is joined into one. After an event with a
  // finish_reason: nothing.
  void push(const Event& event);
  bool cancelled() const { return cancelled_.load(std::memory_order_relaxed); }
  void prompt_read(int64_t tokens) {  // what an interrupted one reads again does not count
    if (tokens > prompt_read_.load(std::memory_order_relaxed)) prompt_read_.store(tokens, std::memory_order_relaxed);
  }

  // Caller's side.
  void cancel();
  int64_t prompt_read() const { return prompt_read_.load(std::memory_order_relaxed); }
  // 1 an event, 0 none yet, -1 over. The memory of the event before goes back to the channel.
  int next_for(Event& event, std::optional<std::chrono::milliseconds> patience);

 private:
  std::shared_ptr<Bell> bell_;
  std::atomic<bool> cancelled_ = false;
  std::atomic<int64_t> prompt_read_ = 0;
  std::mutex mutex_;
  std::condition_variable arrived_;
  Event pending_;
  bool any_ = false, last_ = false, over_ = false;  // pending_ holds something; it is the last; the last was fetched
};

std::unique_ptr<Stream> make_stream(std::shared_ptr<Channel> channel);

}  // namespace sonde
