#include "engine/channel.h"

#include <utility>

namespace sonde {
namespace {

template <class T>
void append(std::vector<T>& to, const std::vector<T>& from) {
  to.insert(to.end(), from.begin(), from.end());
}

class ChannelStream final : public Stream {
 public:
  explicit ChannelStream(std::shared_ptr<Channel> channel) : channel_(std::move(channel)) {}
  ~ChannelStream() override { channel_->cancel(); }
  bool next(Event& event) override { return channel_->next_for(event, std::nullopt) == 1; }
  int next_for(Event& event, int milliseconds) override {
    return channel_->next_for(event, std::chrono::milliseconds(milliseconds));
  }
  void cancel() override { channel_->cancel(); }
  int64_t prompt_read() const override { return channel_->prompt_read(); }

 private:
  std::shared_ptr<Channel> channel_;
};

}  // namespace

void Event::clear() {
  ids.clear(), thought.clear(), text.clear(), logprobs.clear(), top.clear(), finish_reason.clear();
  error.reset(), usage = {}, seed = 0;
}

void Bell::ring() {
  {
    std::lock_guard lock(mutex_);
    ringing_ = true;
  }
  rung_.notify_one();
}

void Bell::wait() {
  std::unique_lock lock(mutex_);
  rung_.wait(lock, [&] { return ringing_; });
  ringing_ = false;
}

void Channel::push(const Event& event) {
  {
    std::lock_guard lock(mutex_);
    if (last_ || over_) return;
    append(pending_.ids, event.ids);
    append(pending_.thought, event.thought);
    pending_.text += event.text;
    append(pending_.logprobs, event.logprobs);
    append(pending_.top, event.top);
    any_ = true;
    if (!event.finish_reason.empty()) {
      pending_.finish_reason = event.finish_reason;
      pending_.error = event.error;
      pending_.usage = event.usage;
      pending_.seed = event.seed;
      last_ = true;
    }
  }
  arrived_.notify_all();
}

void Channel::cancel() {
  cancelled_.store(true, std::memory_order_relaxed);
  bell_->ring();
}

int Channel::next_for(Event& event, std::optional<std::chrono::milliseconds> patience) {
  std::unique_lock lock(mutex_);
  const auto ready = [&] { return any_ || over_; };
  if (!patience) {
    arrived_.wait(lock, ready);
  } else if (!arrived_.wait_for(lock, *patience, ready)) {
    return 0;
  }
  if (over_) return -1;
  std::swap(event, pending_);
  pending_.clear();
  any_ = false;
  over_ = last_;
  return 1;
}

std::unique_ptr<Stream> make_stream(std::shared_ptr<Channel> channel) {
  return std::make_unique<ChannelStream>(std::move(channel));
}

}  // namespace sonde
