#include "cli/interrupt.h"

#include <signal.h>
#include <unistd.h>

namespace sonde {
namespace {

volatile sig_atomic_t flag = 0;
struct sigaction previous, previous_end;

void on_signal(int) {
  if (flag) _exit(130);
  flag = 1;
}

}  // namespace

Interrupt::Interrupt() {
  flag = 0;
  struct sigaction action{};
  action.sa_handler = on_signal;
  sigemptyset(&action.sa_mask);
  sigaction(SIGTERM, &action, &previous_end);
  sigaction(SIGINT, &action, &previous);  // without SA_RESTART: a read from the terminal comes back
}

Interrupt::~Interrupt() {
  sigaction(SIGINT, &previous, nullptr);
  sigaction(SIGTERM, &previous_end, nullptr);
}

bool Interrupt::requested() { return flag != 0; }
void Interrupt::reset() { flag = 0; }

}  // namespace sonde
