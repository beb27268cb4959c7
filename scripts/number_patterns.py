"""Reads the number patterns of libphonenumber as automata, to find the digits with which only premium numbers begin.

The patterns use digits, classes, groups, alternatives and bounded repeats, and nothing else.
"""

import re._parser as parser


class Pattern:
    """The numbers of one type: a pattern and the lengths that they may have."""

    def __init__(self, pattern, lengths):
        self.steps, self.jumps = [[]], [[]]
        self.end = self._add(parser.parse(pattern), 0)
        self.lengths = set(lengths)
        self.start = self._reach({0})
        self.known = {}

    def step(self, states, digit):
        """The states after one more digit."""
        return self._reach({to for state in states for digits, to in self.steps[state] if digit in digits})

    def accepts(self, states, length):
        return self.end in states and length in self.lengths

    def is_alive(self, states, length):
        """Whether some number continues these digits."""
        return self._recall("alive", states, length, lambda after: any(after))

    def is_free(self, states, length):
        """Whether any digits may follow."""
        return self._recall("free", states, length, lambda after: all(after))

    def _recall(self, question, states, length, combine):
        key = (question, states, length)
        if key not in self.known:
            ask = self.is_alive if question == "alive" else self.is_free
            self.known[key] = bool(states) and length <= max(self.lengths) and (
                self.accepts(states, length)
                or combine([ask(self.step(states, digit), length + 1) for digit in "0123456789"])
            )
        return self.known[key]

    def _state(self):
        self.steps.append([])
        self.jumps.append([])
        return len(self.steps) - 1

    def _reach(self, states):
        todo, reached = list(states), set(states)
        while todo:
            for state in self.jumps[todo.pop()]:
                if state not in reached:
                    reached.add(state)
                    todo.append(state)
        return frozenset(reached)

    def _add(self, items, state):
        for kind, value in items:
            state = self._add_one(str(kind), value, state)
        return state

    def _add_one(self, kind, value, state):
        if kind == "SUBPATTERN":
            return self._add(value[-1], state)
        end = self._state()
        if kind == "LITERAL":
            self.steps[state].append((chr(value), end))
        elif kind == "IN":
            self.steps[state].append((class_digits(value), end))
        elif kind == "BRANCH":
            for branch in value[1]:
                self.jumps[self._add(branch, state)].append(end)
        elif kind == "MAX_REPEAT":
            low, high, items = value
            for count in range(high):
                if count >= low:
                    self.jumps[state].append(end)
                state = self._add(items, state)
            self.jumps[state].append(end)
        else:
            raise ValueError(f"the patterns use {kind}, which this does not read")
        return end


def class_digits(items):
    digits = ""
    for kind, value in items:
        if str(kind) == "LITERAL":
            digits += chr(value)
        elif str(kind) == "RANGE":
            digits += "".join(map(chr, range(value[0], value[1] + 1)))
        else:
            digits += "0123456789"
    return digits
