"""The providers' own Python clients use the sandbox's voice providers, and each side proves the other.

What the speech provider speaks is given to the transcription and to the realtime model, and must come back word for word.
Usage: voice_providers.py PATH_TO_ROLLCALL_CARRIER. Prints one line per check and `N passed, N failed`.
"""

import base64
import json
import signal
import subprocess
import sys
import threading
import urllib.request

import openai
import websockets.sync.client
from deepgram import DeepgramClient
from deepgram.core.events import EventType
from deepgram.environment import DeepgramClientEnvironment
from elevenlabs import VoiceSettings
from elevenlabs.client import ElevenLabs
from elevenlabs.v_1_text_to_speech_voice_id_multi_stream_input.types.receive_message_multi import ReceiveMessageMulti
from elevenlabs.core.unchecked_base_model import construct_type

KEY = "a-key"
TEXT = "This is tag-004711, and I would like to know more."
PATIENCE = 20  # s; only a bug makes a wait this long
SILENCE = b"\xff" * 8000


class Desk:
    """The sandbox, and a client of each kind."""

    def __init__(self, base):
        self.base, self.sockets = base, base.replace("http", "ws", 1)
        environment = DeepgramClientEnvironment(base=base, production=self.sockets, agent=self.sockets, agent_rest=base)
        self.deepgram = DeepgramClient(api_key=KEY, environment=environment)
        self.openai = openai.OpenAI(
            api_key=KEY, base_url=base + "/v1", websocket_base_url=self.sockets + "/v1", max_retries=0, timeout=PATIENCE
        )
        self.elevenlabs = ElevenLabs(api_key=KEY, base_url=base)
        self.elevenlabs.text_to_speech._ws_base_url = self.sockets

    def put(self, path, body):
        request = urllib.request.Request(self.base + path, json.dumps(body).encode(), method="PUT")
        request.add_header("Content-Type", "application/json")
        urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=PATIENCE).read()

    def speak(self, text):
        speech = self.elevenlabs.text_to_speech.convert_realtime(
            "voice-1", text=iter([text]), output_format="ulaw_8000", model_id="eleven_flash_v2_5",
            voice_settings=VoiceSettings(speed=1.0),
        )
        return b"".join(speech)

    def listen(self, sound):
        """Every message of a transcription, as the client's types."""
        options = dict(
            model="nova-3", language="en", encoding="mulaw", sample_rate=8000, interim_results="true", endpointing=300,
            utterance_end_ms=1000, vad_events="true", smart_format="true",
        )
        with self.deepgram.listen.v1.connect(**options) as socket:
            messages = []
            socket.on(EventType.MESSAGE, messages.append)
            listening = threading.Thread(target=socket.start_listening, daemon=True)
            listening.start()
            for at in range(0, len(sound), 800):
                socket.send_media(sound[at : at + 800])
            socket.send_keep_alive()
            socket.send_close_stream()
            listening.join(PATIENCE)
            assert not listening.is_alive(), "the transcription did not end"
            return messages


def words(messages):
    final = [message for message in messages if message.type == "Results" and message.is_final]
    return " ".join(filter(None, (message.channel.alternatives[0].transcript for message in final)))


def speech_comes_back_word_for_word(desk):
    messages = desk.listen(desk.speak(TEXT) + SILENCE * 2)
    assert words(messages) == TEXT, words(messages)
    kinds = [message.type for message in messages]
    assert kinds[0] == "SpeechStarted" and kinds[-1] == "Metadata" and "UtteranceEnd" in kinds, kinds
    assert any(message.type == "Results" and not message.is_final for message in messages), "no interim result"
    final = [message for message in messages if message.type == "Results" and message.speech_final]
    assert len(final) == 1 and final[0].channel.alternatives[0].words[-1].punctuated_word == "more."
    names = {type(message).__name__ for message in messages}
    assert names == {"ListenV1Results", "ListenV1SpeechStarted", "ListenV1UtteranceEnd", "ListenV1Metadata"}, names


def several_contexts_speak_apart(desk):
    url = desk.sockets + "/v1/text-to-speech/voice-1/multi-stream-input?output_format=ulaw_8000&auto_mode=true"
    with websockets.sync.client.connect(url, additional_headers={"xi-api-key": KEY}) as socket:
        for context, text in (("c1", "The first. "), ("c2", "The second. ")):
            socket.send(json.dumps({"text": " ", "context_id": context}))
            socket.send(json.dumps({"text": text, "context_id": context, "flush": True}))
            socket.send(json.dumps({"context_id": context, "close_context": True}))
        sound, finals = {}, set()
        while len(finals) < 2:
            message = construct_type(type_=ReceiveMessageMulti, object_=json.loads(socket.recv(PATIENCE)))
            if getattr(message, "is_final", None):
                finals.add(message.context_id)
            elif getattr(message, "audio", None):
                assert len(message.alignment.chars) == len(message.alignment.char_start_times_ms)
                sound[message.context_id] = sound.get(message.context_id, b"") + base64.b64decode(message.audio)
        socket.send(json.dumps({"close_socket": True}))
    for context, text in (("c1", "The first."), ("c2", "The second.")):
        assert words(desk.listen(sound[context] + SILENCE)) == text


def chat_streams_with_usage(desk):
    stream = desk.openai.chat.completions.create(
        model="gpt-4.1-mini", stream=True, stream_options={"include_usage": True},
        messages=[{"role": "system", "content": "Be brief."}, {"role": "user", "content": TEXT}],
    )
    chunks = list(stream)
    said = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert said == "I heard: " + TEXT, said
    assert chunks[-1].usage.total_tokens > 0 and chunks[-2].choices[0].finish_reason == "stop"
    whole = desk.openai.chat.completions.create(model="m", messages=[{"role": "user", "content": "hi"}])
    assert whole.choices[0].message.content == "I heard: hi"


def chat_calls_a_tool(desk):
    desk.put("/_answers", [{"hears": "book", "says": "Let me see.", "calls": {"name": "book", "arguments": {"day": "Mon"}}}])
    tools = [{"type": "function", "function": {"name": "book", "parameters": {"type": "object"}}}]
    ask = [{"role": "user", "content": "Please BOOK it."}]
    with desk.openai.chat.completions.stream(model="m", messages=ask, tools=tools) as stream:
        message = stream.get_final_completion().choices[0].message
    call = message.tool_calls[0]
    assert (call.function.name, json.loads(call.function.arguments)) == ("book", {"day": "Mon"})
    ask += [message.model_dump(), {"role": "tool", "tool_call_id": call.id, "content": "booked"}]
    done = desk.openai.chat.completions.create(model="m", messages=ask, tools=tools)
    desk.put("/_answers", [])
    assert done.choices[0].message.content == "It is done: booked."


def refusals_are_the_clients_own_errors(desk):
    for status, error in ((401, openai.AuthenticationError), (429, openai.RateLimitError), (503, openai.InternalServerError)):
        desk.put("/_provider_faults", [{"provider": "chat", "kind": "refuse", "status": status, "next": 1}])
        try:
            desk.openai.chat.completions.create(model="m", messages=[{"role": "user", "content": "hi"}])
            raise AssertionError("not refused")
        except error:
            pass
    desk.put("/_provider_faults", [{"provider": "chat", "kind": "split", "next": 1}])
    stream = desk.openai.chat.completions.create(model="m", stream=True, messages=[{"role": "user", "content": "a b c"}])
    said = "".join(chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices)
    assert said == "I heard: a b c", said


def realtime_answers_in_speech(desk):
    with desk.openai.realtime.connect(model="gpt-realtime") as socket:
        seen = [socket.recv()]
        mulaw = {"type": "audio/pcmu"}
        vad = {"type": "server_vad", "silence_duration_ms": 300}
        listening = {"format": mulaw, "turn_detection": vad, "transcription": {"model": "gpt-4o-mini-transcribe"}}
        socket.session.update(session={"type": "realtime", "audio": {"input": listening, "output": {"format": mulaw}}})
        sound = desk.speak(TEXT) + SILENCE
        for at in range(0, len(sound), 800):
            socket.input_audio_buffer.append(audio=base64.b64encode(sound[at : at + 800]).decode())
        while seen[-1].type != "response.done":
            seen.append(socket.recv())
        kinds = [event.type for event in seen if event.type not in ("conversation.item.added", "conversation.item.done")]
        once = list(dict.fromkeys(kinds))
        assert once == [
            "session.created", "session.updated", "input_audio_buffer.speech_started", "input_audio_buffer.speech_stopped",
            "input_audio_buffer.committed", "conversation.item.input_audio_transcription.completed", "response.created",
            "response.output_item.added", "response.content_part.added", "response.output_audio_transcript.delta",
            "response.output_audio.delta", "response.output_audio.done", "response.output_audio_transcript.done",
            "response.content_part.done", "response.output_item.done", "response.done",
        ], once
        assert all(type(event).__name__ != "UnknownEvent" for event in seen)
        transcript = next(event for event in seen if event.type.endswith("transcription.completed")).transcript
        assert transcript == TEXT, transcript
        answer = b"".join(base64.b64decode(event.delta) for event in seen if event.type == "response.output_audio.delta")
        assert words(desk.listen(answer + SILENCE)) == "I heard: " + TEXT
        item = seen[-1].response.output[0].id
        socket.conversation.item.truncate(item_id=item, content_index=0, audio_end_ms=10_000_000)
        event = socket.recv()
        assert event.type == "error" and "already shorter than" in event.error.message, event
        socket.conversation.item.truncate(item_id=item, content_index=0, audio_end_ms=100)
        assert socket.recv().type == "conversation.item.truncated"
        socket.response.cancel()
        assert socket.recv().error.code == "response_cancel_not_active"


CHECKS = [
    speech_comes_back_word_for_word,
    several_contexts_speak_apart,
    chat_streams_with_usage,
    chat_calls_a_tool,
    refusals_are_the_clients_own_errors,
    realtime_answers_in_speech,
]


def main():
    flags = ["--addr", "127.0.0.1:0", "--speech-speed", "12", "--speech-pace", "0", "--transcript-ms", "0"]
    flags += ["--chat-first-ms", "0", "--chat-word-ms", "0", "--speech-first-ms", "0"]
    sandbox = subprocess.Popen([sys.argv[1], *flags], stdout=subprocess.PIPE, text=True)
    failed = 0
    try:
        desk = Desk(sandbox.stdout.readline().split()[-1])
        for check in CHECKS:
            name = check.__name__.replace("_", " ")
            try:
                check(desk)
                print(f"ok      {name}")
            except Exception as error:
                failed += 1
                print(f"FAILED  {name}: {type(error).__name__}: {error}")
    finally:
        sandbox.send_signal(signal.SIGTERM)
        sandbox.wait(PATIENCE)
    print(f"{len(CHECKS) - failed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
