"""Writes chat_renderings.json: what Jinja2, set up as the Hugging Face library sets it up, makes of templates in the idioms of
the models' own. Needs `pip install jinja2` (written with 3.1)."""

import json
import pathlib

from jinja2.ext import Extension, loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment


class Generation(Extension):
    """`{% generation %}`: renders its body (the library also records where it lies)."""

    tags = {"generation"}

    def parse(self, parser):
        next(parser.stream)
        return parser.parse_statements(["name:endgeneration"], drop_needle=True)


def refuse(message):
    raise ValueError(message)


def environment():
    env = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[Generation, loopcontrols])
    env.filters["tojson"] = lambda x, ensure_ascii=False, indent=None, separators=None, sort_keys=False: json.dumps(
        x, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
    )
    env.globals["raise_exception"] = refuse
    return env


TEMPLATES = {
    "chatml": """{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}{{ '<|im_start|>system
You are a helpful assistant.<|im_end|>
' }}{% endif %}{{'<|im_start|>' + message['role'] + '
' + message['content'] + '<|im_end|>' + '
'}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant
' }}{% endif %}""",
    "headers": """{% set loop_messages = messages %}{% for message in loop_messages %}{% set content = '<|start_header_id|>' + message['role'] + '<|end_header_id|>

'+ message['content'] | trim + '<|eot_id|>' %}{% if loop.index0 == 0 %}{% set content = bos_token + content %}{% endif %}{{ content }}{% endfor %}{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>

' }}{% endif %}""",
    "instructions": """{% if messages[0]['role'] == 'system' %}
    {% set loop_messages = messages[1:] %}
    {% set system_message = '<<SYS>>\\n' + messages[0]['content'].strip() + '\\n<</SYS>>\\n\\n' %}
{% else %}
    {% set loop_messages = messages %}
    {% set system_message = '' %}
{% endif %}
{% for message in loop_messages %}
    {% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}
        {{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}
    {% endif %}
    {% if loop.index0 == 0 %}
        {% set content = system_message + message['content'] %}
    {% else %}
        {% set content = message['content'] %}
    {% endif %}
    {% if message['role'] == 'user' %}
        {{ bos_token + '[INST] ' + content.strip() + ' [/INST]' }}
    {% elif message['role'] == 'assistant' %}
        {{ ' ' + content.strip() + ' ' + eos_token }}
    {% endif %}
{% endfor %}""",
    "roles": """{%- for message in messages %}
    {%- if message.role == 'user' %}
{{- '<|user|>\\n' ~ message.content ~ '\\n' }}
    {%- elif message.role == 'system' -%}
<|system|>
{{ message.content }}
    {%- else %}
    {%- generation %}
{{- '<|assistant|>\\n' + message.content }}{{ eos_token if not loop.last else '' }}
    {%- endgeneration %}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<|assistant|>\\n' }}{%- endif %}""",
    "thinking": """{%- set ns = namespace(multi=true, last=messages|length - 1) %}
{%- for message in messages[::-1] %}
    {%- set index = (messages|length - 1) - loop.index0 %}
    {%- if ns.multi and message.role == "user" and not(message.content.startswith('<tool>') and message.content.endswith('</tool>')) %}
        {%- set ns.multi = false %}
        {%- set ns.last = index %}
    {%- endif %}
{%- endfor %}
{%- for message in messages %}
    {%- if message.content is string %}
        {%- set content = message.content %}
    {%- else %}
        {%- set content = '' %}
    {%- endif %}
    {%- if message.role == "assistant" %}
        {%- set reasoning = '' %}
        {%- if message.reasoning is string %}
            {%- set reasoning = message.reasoning %}
        {%- elif '</think>' in content %}
            {%- set reasoning = content.split('</think>')[0].rstrip('\\n').split('<think>')[-1].lstrip('\\n') %}
            {%- set content = content.split('</think>')[-1].lstrip('\\n') %}
        {%- endif %}
        {%- if loop.index0 > ns.last and reasoning %}
            {{- '<|im_start|>' + message.role + '\\n<think>\\n' + reasoning.strip('\\n') + '\\n</think>\\n\\n' + content.lstrip('\\n') }}
        {%- else %}
            {{- '<|im_start|>' + message.role + '\\n' + content }}
        {%- endif %}
        {{- '<|im_end|>\\n' }}
    {%- else %}
        {{- '<|im_start|>' + message.role + '\\n' + content + '<|im_end|>' + '\\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
    {%- if enable_thinking is defined and enable_thinking is false %}{{- '<think>\\n\\n</think>\\n\\n' }}{%- endif %}
{%- endif %}""",
    "words": """{%- macro shout(text, mark='!') -%}
{{ text | upper }}{{ mark }}
{%- endmacro -%}
{% set names = {'user': 'Human', 'assistant': 'Bot'} %}
{% for m in messages if m.role != 'system' %}
  {% if m.content | length > 40 %}{% continue %}{% endif %}
{{ loop.index }}/{{ loop.length }} {{ names.get(m.role, m.role | title) }}: {{ shout(m.content) }}{{ shout('x', mark='?') }}
{{ m | tojson }} {{ m.content | tojson(indent=2) }} {{ [1, 2.5, none, true, 'ä"'] | tojson }}
{{ m.content.split() | join('-') }} {{ m.content | replace('a', 'bb') | first }} {{ (m.content ~ '') [1:3] }} {{ m.keys() | list | join(',') }}
{% endfor %}
{% for m in messages if m.role == 'tool' %}{{ m }}{% else %}
no tool
{% endfor %}
{% filter upper %}done {{ 7 // 2 }} {{ 2 ** 3 }} {{ 3 * 'ab' }} {{ -3 + 1 }} {{ tools is none }} {{ none }} {{ not true }}{% endfilter %}
{% set block %}
 captured {{ add_generation_prompt }}
{% endset %}{{ block | trim }}{{ '%' }}{{ "quote's" }}{{ 'a' if undefined_name else 'b' }}{{ undefined_name | default('c') }}
{% with a = 1, b = 2 %}{{ a + b }}{% endwith %}
{%- for k, v in {'p': 1, 'q': 2}.items() %} {{ k }}={{ v }}{% endfor %}
{{ messages | map(attribute='role') | join('+') }} {{ messages | selectattr('role', 'equalto', 'user') | list | length }}""",
}

CONVERSATIONS = [
    [("user", "Hello, world")],
    [("system", " Be brief. "), ("user", "What is a cat?\n"), ("assistant", "<think>\nhmm\n</think>\n\nAn animal."), ("user", "Why? é")],
    [("user", "a"), ("assistant", "<think>\nx</think>y"), ("user", "<tool>z</tool>")],
    [("assistant", "first")],
    [("user", "a sentence that is rather longer than forty characters")],
]

cases = []
for name, source in TEMPLATES.items():
    template = environment().from_string(source)
    for conversation in CONVERSATIONS:
        for generation in (False, True):
            messages = [{"role": r, "content": c} for r, c in conversation]
            try:
                text = template.render(
                    messages=messages,
                    add_generation_prompt=generation,
                    bos_token="<s>",
                    eos_token="</s>",
                    tools=None,
                    documents=None,
                )
            except ValueError as error:
                text = {"refused": str(error)}
            cases.append({"template": name, "messages": messages, "add_generation_prompt": generation, "text": text})

out = pathlib.Path(__file__).with_name("chat_renderings.json")
out.write_text(json.dumps({"templates": TEMPLATES, "cases": cases}, ensure_ascii=False, indent=1) + "\n")
