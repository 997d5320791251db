// A scale that is not finite is told by every command: on the fast path before anything runs, on the exact one, which
// reads weights where they are, instead of a result.
#include "cli/program.h"
#include "support/damaged.h"

namespace sonde::test {
namespace {

TEST(Scales, ThatAreNotFiniteEndEveryCommandWithAnError) {
  const std::string from = golden("gguf/llama.Q5_1.gguf"), tensor = "model.layers.0.self_attn.k_proj.weight";
  const Folder folder;
  const std::string path = folder / "model.gguf";
  const auto checkpoint = Checkpoint::open(from).value();
  ASSERT_NE(checkpoint->find(tensor), nullptr);
  write_damaged(bytes_of(from), *checkpoint->find(tensor), path);

  const std::vector<std::string> generate = {"generate", path, "--ids", "1,2,3", "--max-tokens", "4", "--temperature", "0"};
  std::vector<std::string> exact = generate, fast = generate;
  exact.emplace_back("--exact"), fast.emplace_back("--fast");
  for (const auto& command : {exact, {"logits", path, "--ids", "1,2,3", "--out", folder / "out.safetensors"}}) {
    const Ran ran = run(command);
    EXPECT_NE(ran.code, 0) << command[0];
    EXPECT_NE(ran.err.find("not finite"), std::string::npos) << command[0] << ": " << ran.err;
    EXPECT_NE(ran.err.find("sonde inspect --check"), std::string::npos) << command[0] << ": " << ran.err;
  }
  EXPECT_FALSE(std::filesystem::exists(folder / "out.safetensors"));
  const Ran refused = run(fast);
  EXPECT_NE(refused.code, 0);
  EXPECT_NE(refused.err.find(tensor), std::string::npos) << refused.err;
  const Ran checked = run({"inspect", path, "--check"});
  EXPECT_NE(checked.code, 0);
  EXPECT_NE((checked.out + checked.err).find(tensor), std::string::npos) << checked.err;
}

}  // namespace
}  // namespace sonde::test
