"""Chat templates with conversations, and what transformers renders or why it refuses."""

from pathlib import Path

import jinja2
from transformers.utils.chat_template_utils import render_jinja_template

HERE = Path(__file__).parent

SYSTEM = {"role": "system", "content": "You are terse."}
USER = {"role": "user", "content": "What is 2 + 2?"}
ANSWER = {"role": "assistant", "content": "  It is 4.\n"}
AGAIN = {"role": "user", "content": "And <b>\"5 & 5\"</b>? 'Ünïcödé' 🙂\nsecond line"}
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "get_weather",
            "description": "The weather in a city, in °C.",
            "parameters": {
                "type": "object",
                "properties": {"city": {"type": "string"}, "days": {"type": "integer", "default": 1, "minimum": 0.5}},
                "required": ["city"],
            },
        },
    },
    {"type": "function", "function": {"name": "now", "parameters": {}, "strict": True, "extra": None}},
]
CALL = {
    "role": "assistant",
    "content": "",
    "tool_calls": [{"type": "function", "function": {"name": "get_weather", "arguments": {"city": "Zürich", "days": 2}}}],
}
RESULT = {"role": "tool", "content": "{\"temperature\": 21}"}

CONVERSATIONS = {
    "one turn": [USER],
    "system": [SYSTEM, USER],
    "three turns": [USER, ANSWER, AGAIN],
    "system, three turns": [SYSTEM, USER, ANSWER, AGAIN],
    "empty text": [{"role": "user", "content": ""}],
}

SPECIAL = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>"}

# Each template exercises features that templates in the wild use; conversations are added below.
EDGE_TEMPLATES = {
    "whitespace": """
{%- for m in messages %}
    {%- if m.role == 'user' -%}
        [{{ m.content }}]
    {%- else %}
  kept {{ m.content -}}
    {% endif %}

  {% if loop.last %}  last{% endif %}
{% endfor %}
   {% if add_generation_prompt %}
>>
   {% endif %}
""",
    "trim blocks": "a\n  {% if true %}\nb\n  {% endif %}\nc {{ 1 }}\n{# comment #}\nd\n\n",
    "plus signs": "x\n  {%+ if true +%}\n y {%+ endif %}\nz\n",
    "raise": "{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('System role not supported!') }}{% endif %}{{ m.content }}{% endfor %}",
    "alternation": "{% for m in messages %}{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('Roles must alternate: ' + m['role']) }}{% endif %}{{ bos_token + m['content'] | trim + eos_token }}{% endfor %}",
    "strings": "{% for m in messages %}{{ m.content.strip().upper() }}|{{ m.content.lstrip() }}|{{ m.content.rstrip('\\n') }}|{{ m.content.split(' ')[-1] }}|{{ m.content.startswith('What') }}|{{ m.content.endswith('\\n') }}|{{ m.content.replace('2', 'two') }}|{{ m.role.title() }}|{{ m.role.capitalize() }}|{{ 'a' in m.content }}|{{ m.content.find('is') }}|{{ m.content | length }}\n{% endfor %}",
    "lines": "{% for m in messages %}{% for line in m.content.split('\\n') %}{{ loop.index }}:{{ line }};{% endfor %}{{ m.content.splitlines() }}{% endfor %}",
    "values": "{{ none }} {{ true }} {{ false }} {{ 1 }} {{ 1.5 }} {{ 2.0 }} {{ [1, 'a', none, true] }} {{ {'k': 'v', 'n': [1.0]} }} {{ missing }} {{ 7 // 2 }} {{ 7 / 2 }} {{ 7 % 3 }} {{ 2 ** 3 }} {{ -5 // 2 }}",
    "repr": "{{ messages }} {{ messages[0] }} {{ ['it\\'s', 'say \"hi\"', 'both \\' \"', 'tab\\t', 'é', 'back\\\\slash'] }}",
    "slices": "{{ messages[1:] | length }} {{ messages[:-1] | length }} {{ messages[::-1][0].content }} {{ messages[-1]['content'][:4] }} {{ 'abcdef'[1:-1:2] }}",
    "namespace": "{% set ns = namespace(n=0, seen='') %}{% for m in messages %}{% set ns.n = ns.n + 1 %}{% set ns.seen = ns.seen ~ m.role[0] ~ ns.n %}{% endfor %}{{ ns.n }} {{ ns.seen }}",
    "loop controls": "{% for m in messages %}{% if m.role == 'assistant' %}{% continue %}{% endif %}{{ loop.index }}{{ loop.first }}{{ loop.last }}{{ loop.revindex }}{% if loop.index == 3 %}{% break %}{% endif %}{% endfor %}",
    "macro": "{% macro turn(role, text='none given') %}<{{ role }}>{{ text }}</{{ role }}>{% endmacro %}{% for m in messages %}{{ turn(m.role, m.content) }}{% endfor %}{{ turn('end') }}{{ turn(role='kw', text='x') }}",
    "tests": "{{ x is defined }} {{ messages is iterable }} {{ messages[0] is mapping }} {{ messages[0].content is string }} {{ none is none }} {{ messages is sequence }} {{ 4 is even }} {{ 'a' is not string }} {{ messages[0].tool_calls is defined }} {{ tools is none }} {{ 1 is number }} {{ true is boolean }}",
    "filters": "{{ messages | map(attribute='role') | join(', ') }} {{ messages | selectattr('role', 'equalto', 'user') | list | length }} {{ messages | rejectattr('role', 'equalto', 'user') | list | length }} {{ [3, 1, 2] | sort }} {{ [1, 2] | first }} {{ [1, 2] | last }} {{ 'x' | default('y') }} {{ missing | default('y') }} {{ 'abc' | upper }} {{ ' a ' | trim }} {{ 5 | string + '!' }} {{ '7' | int + 1 }} {{ [1, 1, 2] | unique | list }} {% for k, v in {'b': 1, 'a': 2} | dictsort %}{{ k }}{{ v }}{% endfor %}{% for k, v in messages[0] | items %}{{ k }}={{ v }}{% endfor %}{{ {'b': 1}.items() | list | length }}",
    "tojson": "{{ messages | tojson }} {{ messages[0] | tojson(indent=2) }} {{ {'b': 1, 'a': [1.5, none, true, {}, []]} | tojson(sort_keys=true) }} {{ 'é🙂' | tojson }} {{ 'é🙂' | tojson(ensure_ascii=true) }} {{ {'b': [], 'a': {}} | tojson(indent=4) }} {{ [1, 2] | tojson(separators=(',', ':')) }} {{ '<a href=\"x\">&' | tojson }} {{ 1e100 | tojson }} {{ 0.1 | tojson }}",
    "dict methods": "{% for m in messages %}{% for k, v in m.items() %}{{ k }}={{ v }};{% endfor %}{{ m.keys() | list }}{{ m.get('name', 'anonymous') }}{{ m.get('name') }}{{ 'role' in m }}{% endfor %}",
    "set block": "{% set text %}\n  block of {{ messages | length }}\n{% endset %}[{{ text }}]{% set a, b = 1, 2 %}{{ a + b }}",
    "ternary": "{{ 'yes' if messages | length > 1 else 'no' }}{{ 'only' if false }}{{ messages[0].name or 'nobody' }}{{ messages and 'some' }}",
    "generation": "{% for m in messages %}{{ m.role }}:{%- generation -%} {{ m.content }} {%- endgeneration -%}\n{% generation %}\n  x\n{% endgeneration %}\n{% endfor %}",
    "raw": "{% raw %}{{ not a variable }} {% nor a block %}{% endraw %}{{ '{{' }}{{ '%}' }}",
    "recursion": "{% for m in messages recursive %}{{ m.role }}{% if m.parts %}({{ loop(m.parts) }}){% endif %}{% endfor %}",
    "bos eos": "{{ bos_token }}{% for m in messages %}{{ m.content }}{{ eos_token }}{% endfor %}{{ unk_token }}{{ pad_token }}",
    "attribute of undefined": "{{ messages[0].missing.more }}",
    "concatenation": "{{ 'a' + 'b' * 3 }}{{ 1 ~ 'x' ~ 2 }}{{ '%s-%d' | format('a', 3) }}{{ 'ab' 'cd' }}",
    "range": "{% for i in range(1, 6, 2) %}{{ i }}{% endfor %}{{ range(3) | list }}{{ [0, 1] + [2] }}",
    "else": "{% for m in messages if m.role == 'nobody' %}{{ m }}{% else %}none{% endfor %}{% for m in messages if m.role == 'user' %}{{ loop.index }}/{{ loop.length }}{% endfor %}",
    "date type": "{{ strftime_now('%Y') | length }} {{ strftime_now('%d %b %Y') is string }}",
    "trailing newline": "end\n",
    "line ends": "{% for m in messages %}\r\n<|im_start|>{{ m.role + '\r\n' }}\r{{ m.content }}<|im_end|>\r\n\r\n{% endfor %}\r\n  {% if true %}\r\nend\r\n  {% endif %}\r\n",
    "namespace values": "{% set ns = namespace(list=[], map={}, pair=none, text='') %}{% for m in messages %}{% set ns.list = ns.list + [m.role] %}{% set ns.map = {'last': m, 'all': ns.list} %}{% set ns.pair = 1, m.role if true else 2 %}{% set ns.text %}[{{ ns.text }}{{ loop.index }}]{% endset %}{%- set ns.lower | upper -%} x {%- endset -%}{% endfor %}{{ ns.list }} {{ ns.list[1:] }} {{ ns.list | join('+') }} {{ ns.map }} {{ ns.pair[1] }} {{ ns.text }} {{ ns.lower }} {{ ns.list is sequence }} {{ (ns.list[:1] + ns.list) | length }}",
}


def render(source, messages, tools, prompt):
    try:
        rendered, _ = render_jinja_template([messages], tools=tools, chat_template=source, add_generation_prompt=prompt, **SPECIAL)
        return {"expected": rendered[0]}
    except jinja2.exceptions.TemplateError as error:
        return {"error": str(error)}


def chat_cases(smollm2_template):
    # ChatML with tools, in the constructs that the templates of Qwen2 and its kin use.
    tools_template = (HERE / "tools.jinja").read_text(encoding="utf-8")
    templates = {"SmolLM2": smollm2_template, "ChatML with tools": tools_template} | EDGE_TEMPLATES
    templates["tojson of tools"] = "{{ tools | tojson }}{{ tools | tojson(indent=2) }}"
    cases = []

    def add(label, template, messages, tools=None, prompt=False):
        case = dict(name=f"{template}: {label}", template=template, messages=messages, tools=tools, add_generation_prompt=prompt)
        cases.append(case | render(templates[template], messages, tools, prompt))

    for prompt in (False, True):
        for label, conversation in CONVERSATIONS.items():
            add(label, "SmolLM2", conversation, prompt=prompt)
            add(label, "ChatML with tools", conversation, prompt=prompt)
        add("tools", "ChatML with tools", [SYSTEM, USER], TOOLS, prompt)
        add("tools without system", "ChatML with tools", [USER], TOOLS, prompt)
        add("tool calls", "ChatML with tools", [USER, CALL, RESULT, RESULT, ANSWER, AGAIN], TOOLS, prompt)
    for template in EDGE_TEMPLATES:
        for label in ("one turn", "system, three turns"):
            add(label, template, CONVERSATIONS[label], prompt=True)
    add("tools", "tojson of tools", [USER], TOOLS)
    parts = [{"role": "b", "content": ""}, {"role": "c", "content": ""}]
    add("nested", "recursion", [{"role": "a", "content": "", "parts": parts}])
    return {"templates": templates, "special_tokens": SPECIAL, "cases": cases}
