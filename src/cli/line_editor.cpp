#include "cli/line_editor.h"

#include <histedit.h>
#include <sys/stat.h>
#include <unistd.h>

#include <langinfo.h>
#include <cerrno>
#include <clocale>
#include <cstdio>
#include <cstdlib>
#include <cwchar>
#include <filesystem>
#include <iostream>

#include "cli/interrupt.h"

namespace sonde {
namespace {

// Where the history is kept: $XDG_STATE_HOME/sonde/chat_history, ~/.local/state/sonde/chat_history; "" where there is
// no home.
std::string history_path() {
  const char* state = std::getenv("XDG_STATE_HOME");
  const char* home = std::getenv("HOME");
  std::string folder;
  if (state && *state)
    folder = state;
  else if (home && *home)
    folder = std::string(home) + "/.local/state";
  else
    return "";
  folder += "/sonde";
  std::error_code error;
  std::filesystem::create_directories(folder, error);
  return error ? "" : folder + "/chat_history";
}

constexpr int kHistoryLines = 1000;

}  // namespace

struct LineEditor::State {
  std::string prompt, history_file;
  EditLine* edit = nullptr;  // null: not a terminal
  History* history = nullptr;
  bool interrupted = false;
};

namespace {

const char* prompt_of(EditLine* edit) {
  void* data = nullptr;
  el_get(edit, EL_CLIENTDATA, &data);
  return static_cast<LineEditor::State*>(data)->prompt.c_str();
}

// One character; Ctrl-C ends the line, which next() then throws away.
int read_character(EditLine* edit, wchar_t* character) {
  void* data = nullptr;
  el_get(edit, EL_CLIENTDATA, &data);
  auto* state = static_cast<LineEditor::State*>(data);
  mbstate_t shift{};
  for (;;) {
    char byte = 0;
    const ssize_t got = read(STDIN_FILENO, &byte, 1);
    if (got == 0) return 0;
    if (got < 0) {
      if (errno != EINTR) return -1;
      if (!Interrupt::requested()) continue;
      Interrupt::reset();
      state->interrupted = true;
      *character = L'\n';
      return 1;
    }
    const std::size_t used = std::mbrtowc(character, &byte, 1, &shift);
    if (used == static_cast<std::size_t>(-2)) continue;  // more bytes are to come
    if (used == static_cast<std::size_t>(-1)) {
      shift = {};
      continue;
    }
    return 1;
  }
}

}  // namespace

LineEditor::LineEditor(const std::string& prompt) : state_(std::make_unique<State>()) {
  state_->prompt = prompt;
  if (!isatty(STDIN_FILENO) || !isatty(STDOUT_FILENO)) return;
  std::setlocale(LC_CTYPE, "");
  if (std::string(nl_langinfo(CODESET)) != "UTF-8") std::setlocale(LC_CTYPE, "C.UTF-8");
  state_->edit = el_init("sonde", stdin, stdout, stderr);
  if (!state_->edit) return;
  state_->history = history_init();
  HistEvent event;
  history(state_->history, &event, H_SETSIZE, kHistoryLines);
  history(state_->history, &event, H_SETUNIQUE, 1);
  state_->history_file = history_path();
  if (!state_->history_file.empty()) history(state_->history, &event, H_LOAD, state_->history_file.c_str());
  el_set(state_->edit, EL_CLIENTDATA, state_.get());
  el_set(state_->edit, EL_PROMPT, prompt_of);
  el_set(state_->edit, EL_EDITOR, "emacs");
  el_set(state_->edit, EL_HIST, history, state_->history);
  el_set(state_->edit, EL_GETCFN, read_character);
  el_set(state_->edit, EL_BIND, "^R", "em-inc-search-prev", nullptr);
  el_source(state_->edit, nullptr);  // the person's own ~/.editrc
}

LineEditor::~LineEditor() {
  if (!state_->edit) return;
  if (!state_->history_file.empty()) {
    const mode_t mask = umask(077);  // what was asked is nobody else's business
    HistEvent event;
    history(state_->history, &event, H_SAVE, state_->history_file.c_str());
    umask(mask);
  }
  history_end(state_->history);
  el_end(state_->edit);
}

bool LineEditor::interactive() const { return state_->edit != nullptr; }

LineEditor::Got LineEditor::next(std::string& line) {
  line.clear();
  if (!state_->edit) {
    if (!std::getline(std::cin, line)) return Got::kEnd;
    if (!line.empty() && line.back() == '\r') line.pop_back();
    return Got::kLine;
  }
  state_->interrupted = false;
  int count = 0;
  const char* text = el_gets(state_->edit, &count);
  if (state_->interrupted) return Got::kStopped;
  if (!text || count <= 0) return Got::kEnd;
  line.assign(text, static_cast<std::size_t>(count));
  while (!line.empty() && (line.back() == '\n' || line.back() == '\r')) line.pop_back();
  if (!line.empty()) {
    HistEvent event;
    history(state_->history, &event, H_ENTER, line.c_str());
  }
  return Got::kLine;
}

}  // namespace sonde
