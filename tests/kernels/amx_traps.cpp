// Runs the product's own machine code for AMX where there is none: the processor refuses an instruction for tiles, the
// system sends SIGILL, and the handler takes the instruction apart (Intel's manual, vol. 2, "VEX.128.xx.0F38.W0") and
// does it.
#include <signal.h>
#include <ucontext.h>

#include <atomic>
#include <cstring>

#include "kernels/amx_processor.h"

namespace sonde::test::amx {
namespace {

std::atomic<int64_t> done{0};

struct Memory {
  uint8_t* base;   // with the displacement
  int64_t stride;  // the scaled index
  int bytes;       // of the encoding, from ModRM on
};

Memory memory(const uint8_t* p, const greg_t* registers, bool x, bool b) {
  constexpr int kOrder[16] = {REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP, REG_RSI, REG_RDI,
                              REG_R8,  REG_R9,  REG_R10, REG_R11, REG_R12, REG_R13, REG_R14, REG_R15};
  const int mod = p[0] >> 6;
  int base = p[0] & 7, bytes = 1;
  Memory m{nullptr, 0, 0};
  if (base == 4) {
    const int index = (p[1] >> 3 & 7) + 8 * x;
    if (index != 4) m.stride = registers[kOrder[index]] << (p[1] >> 6);
    base = p[1] & 7, bytes = 2;
  }
  m.base = reinterpret_cast<uint8_t*>(registers[kOrder[base + 8 * b]]);
  if (mod == 1) m.base += int8_t(p[bytes]), bytes += 1;
  if (mod == 2) {
    int32_t far;
    std::memcpy(&far, p + bytes, 4);
    m.base += far, bytes += 4;
  }
  m.bytes = bytes;
  return m;
}

// False: not an instruction for tiles that the kernels may use. Addresses without a base register are not among them.
bool serve(greg_t* registers) {
  const uint8_t* const p = reinterpret_cast<const uint8_t*>(registers[REG_RIP]);
  if (p[0] != 0xC4 || (p[1] & 0x1F) != 2 || (p[2] & 0x84) != 0) return false;  // 0F38, W0, 128 bits
  const int prefix = p[2] & 3, other = ~(p[2] >> 3) & 15, opcode = p[3], mod = p[4] >> 6, reg = p[4] >> 3 & 7,
            rm = p[4] & 7;
  int bytes = 5;
  if (opcode == 0x5E && prefix == 3 && mod == 3) {
    multiply(reg, rm, other);
  } else if (opcode == 0x5C && prefix == 2 && mod == 3) {
    multiply_pairs(reg, rm, other);
  } else if (opcode == 0x49 && prefix == 3 && mod == 3) {
    zero(reg);
  } else if (opcode == 0x49 && prefix == 0 && p[4] == 0xC0) {
    release();
  } else if ((opcode == 0x49 || opcode == 0x4B) && mod != 3 && !(mod == 0 && rm == 5)) {
    const Memory m = memory(p + 4, registers, (p[1] & 0x40) == 0, (p[1] & 0x20) == 0);
    bytes = 4 + m.bytes;
    kernels::TileShapes shapes;
    if (opcode == 0x49 && prefix == 0)
      std::memcpy(&shapes, m.base + m.stride, sizeof shapes), configure(shapes);
    else if (opcode == 0x4B && (prefix == 3 || prefix == 1) && rm == 4)  // TILELOADD, TILELOADDT1
      load(reg, m.base, m.stride);
    else if (opcode == 0x4B && prefix == 2 && rm == 4)
      store(reg, m.base, m.stride);
    else
      return false;
  } else {
    return false;
  }
  registers[REG_RIP] += bytes;
  ++done;
  return true;
}

void handler(int, siginfo_t*, void* context) {
  if (!serve(static_cast<ucontext_t*>(context)->uc_mcontext.gregs)) signal(SIGILL, SIG_DFL);  // and it fails again
}

}  // namespace

void serve_instructions() {
  struct sigaction action = {};
  action.sa_sigaction = handler;
  action.sa_flags = SA_SIGINFO | SA_NODEFER;
  sigaction(SIGILL, &action, nullptr);
}
int64_t served() { return done; }

}  // namespace sonde::test::amx
