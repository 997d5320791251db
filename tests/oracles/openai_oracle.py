"""`sonde serve` answers the openai client: models, an answer whole and streamed, the key, a mistake."""
import json
import re
import signal
import subprocess
import threading

import openai

from common import PROGRAM, check, sonde

QUESTION = [{"role": "user", "content": "37 * 48"}]


def start():
    server = subprocess.Popen([PROGRAM, "serve", "--port", "0", "--api-key", "sesame"], stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    said = ""
    for line in server.stderr:
        said += line
        found = re.search(r"http://127\.0\.0\.1:(\d+)", line)
        if found:
            threading.Thread(target=server.stderr.read, daemon=True).start()  # what it says later must not block it
            return server, f"http://127.0.0.1:{found[1]}/v1"
    raise SystemExit(f"FAILED: the server did not start\n{said}")


server, url = start()
try:
    client = openai.OpenAI(base_url=url, api_key="sesame", max_retries=0, timeout=120)
    models = client.models.list().data
    check(len(models) == 1, f"one model, not {models}")
    model = models[0].id

    whole = client.chat.completions.create(model=model, messages=QUESTION, temperature=0)
    message = whole.choices[0].message
    check("1776" in message.content, f"37 * 48: {message.content!r}")
    check(message.reasoning_content and whole.choices[0].finish_reason == "stop", f"reasoning and a stop: {whole}")
    check(whole.usage.total_tokens == whole.usage.prompt_tokens + whole.usage.completion_tokens > 20, f"usage: {whole.usage}")
    asked = json.loads(sonde("ask", "37 * 48", "--temperature", "0", "--json"))
    check(asked["content"] == message.content, f"ask says {asked['content']!r}, serve {message.content!r}")

    content = reasoning = ""
    usage = None
    for chunk in client.chat.completions.create(model=model, messages=QUESTION, temperature=0, stream=True, stream_options={"include_usage": True}):
        usage = chunk.usage or usage
        for choice in chunk.choices:
            content += choice.delta.content or ""
            reasoning += getattr(choice.delta, "reasoning_content", None) or ""
    check((content, reasoning) == (message.content, message.reasoning_content), "streamed and whole answers are equal")
    check(usage == whole.usage or usage.completion_tokens == whole.usage.completion_tokens, f"usage at the end of the stream: {usage}")

    cut = client.chat.completions.create(model=model, messages=QUESTION, temperature=0, max_tokens=5)
    check(cut.choices[0].finish_reason == "length" and cut.usage.completion_tokens == 5, f"cut after five tokens: {cut}")

    for bad, kind in (({"api_key": "wrong"}, openai.AuthenticationError),):
        try:
            openai.OpenAI(base_url=url, max_retries=0, **bad).chat.completions.create(model=model, messages=QUESTION)
            check(False, "a wrong key was let in")
        except kind:
            pass
    try:
        client.chat.completions.create(model=model, messages=QUESTION, temperature=-3)
        check(False, "a temperature of -3 was taken")
    except openai.BadRequestError as error:
        check("temperature" in str(error), f"the error names the field: {error}")
    print("the openai client is served")
finally:
    server.send_signal(signal.SIGINT)
    try:
        server.wait(20)
    except subprocess.TimeoutExpired:
        server.kill()
        raise SystemExit("FAILED: the server did not end after SIGINT")
