package audit

import (
	"encoding/json"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/countersign-dev/countersign/internal/id"
)

// Sentence says in plain words what a record tells, for `audit list`: "Dana
// signed in with a passkey (phr)". parts are as Open gave them. names turns an
// identifier into what people call it ("" if it has no name); nil shows
// identifiers.
//
// The words come from the kind's template. {who} is the first person concerned,
// else the general part's "by"; {whom} is the second, else "whom"; {people} are all of
// them; {actor} is who acted, whoever is concerned. {name} is the member of that name in
// a part, the first that has it, or in the facts. [a|b] is the first choice of which nothing is missing, or nothing.
// <a|b> is a, or b if the act was refused; {who} and {whom} outside brackets
// become "someone". A refused act ends with its "reason".
func Sentence(row Row, parts []OpenPart, names func(id string) string) string {
	words := kinds[row.Kind].words
	if words == "" {
		return "a record of a later release, kind " + strconv.Itoa(int(row.Kind))
	}
	s := sentenceOf(row, parts, names)
	text := s.say(words)
	if reason := s.value("reason"); reason != "" {
		text += ": " + reason
	}
	return text
}

// Say tells the same in other words, for somebody else; the template is as
// Sentence has it. It does not add the reason.
func Say(words string, row Row, parts []OpenPart, names func(id string) string) string {
	s := sentenceOf(row, parts, names)
	return s.say(words)
}

func sentenceOf(row Row, parts []OpenPart, names func(id string) string) sentence {
	s := sentence{row: row, names: names}
	for _, p := range parts {
		if p.Pseudonym != ([16]byte{}) {
			s.persons = append(s.persons, s.person(p))
		}
		if f := p.Fields(); f != nil {
			s.fields = append(s.fields, f)
		}
	}
	var facts map[string]any
	if json.Unmarshal(row.Facts, &facts) == nil {
		s.fields = append(s.fields, facts)
	}
	return s
}

func (s *sentence) say(words string) string {
	text, _ := s.render(words, false)
	if r, n := utf8.DecodeRuneInString(text); n > 0 {
		text = string(unicode.ToUpper(r)) + text[n:]
	}
	return text
}

type sentence struct {
	row     Row
	names   func(string) string
	persons []string
	fields  []map[string]any
}

func (s *sentence) person(p OpenPart) string {
	switch {
	case p.Erased:
		return "an erased person"
	case p.Person == "":
		return "someone"
	}
	return s.name(p.Person)
}

func (s *sentence) name(v string) string {
	if _, ok := id.Bytes(v); ok && s.names != nil {
		if n := s.names(v); n != "" {
			return n
		}
	}
	return v
}

// render fills in a template; ok is false if a value is missing and the
// template is a choice in brackets.
func (s *sentence) render(words string, choice bool) (text string, ok bool) {
	var b strings.Builder
	for words != "" {
		i := strings.IndexAny(words, "{[<")
		if i < 0 {
			b.WriteString(words)
			break
		}
		b.WriteString(words[:i])
		open := words[i]
		inside, rest := enclosed(words[i:])
		words = rest
		switch open {
		case '{':
			v := s.value(inside)
			if v == "" && choice {
				return "", false
			}
			if v == "" {
				v = "someone"
			}
			b.WriteString(v)
		case '[':
			for c := range strings.SplitSeq(inside, "|") {
				if t, ok := s.render(c, true); ok {
					b.WriteString(t)
					break
				}
			}
		case '<':
			yes, no, _ := strings.Cut(inside, "|")
			if s.refused() {
				yes = no
			}
			b.WriteString(yes)
		}
	}
	return b.String(), true
}

// enclosed splits what is inside the bracket that s begins with from the rest.
// Templates do not nest brackets of one sort.
func enclosed(s string) (inside, rest string) {
	end := strings.IndexByte(s, map[byte]byte{'{': '}', '[': ']', '<': '>'}[s[0]])
	return s[1:end], s[end+1:]
}

func (s *sentence) refused() bool {
	for _, f := range s.fields {
		if f["r"] == true {
			return true
		}
	}
	return false
}

func (s *sentence) value(name string) string {
	switch {
	case name == "actor":
		return s.actor()
	case name == "who" && len(s.persons) > 0:
		return s.persons[0]
	case name == "whom" && len(s.persons) > 1:
		return s.persons[1]
	case name == "people":
		return s.people()
	case name == "who":
		name = "by"
	}
	for _, f := range s.fields {
		if v := s.show(f[name]); v != "" {
			return v
		}
	}
	if name == "by" && s.row.Facts != nil {
		return s.itself()
	}
	return ""
}

// maxPeople is how many of the persons concerned a sentence names.
const maxPeople = 5

// people are the persons concerned, the first of them by name.
func (s *sentence) people() string {
	n := min(len(s.persons), maxPeople)
	text := strings.Join(s.persons[:n], ", ")
	if more := len(s.persons) - n; more > 0 {
		text += " and " + strconv.Itoa(more) + " more"
	}
	return text
}

// actor is who acted: a process of ours, a service, or the first person.
func (s *sentence) actor() string {
	if v := s.itself(); v != "" {
		return v
	}
	for _, f := range s.fields {
		if v, _ := f["service"].(string); v != "" && f["kind"] == "service" {
			return s.name(v)
		}
	}
	if len(s.persons) > 0 {
		return s.persons[0]
	}
	return "someone"
}

// itself is who acted when it was nobody with a name: the facts say the kind of
// the principal.
func (s *sentence) itself() string {
	for _, f := range s.fields {
		switch f["kind"] {
		case "system":
			return "the server"
		case "operator":
			return "the operator of the machine"
		}
	}
	return ""
}

func (s *sentence) show(v any) string {
	switch v := v.(type) {
	case string:
		return s.name(v)
	case float64:
		return strconv.FormatFloat(v, 'f', -1, 64)
	case []any:
		var all []string
		for _, item := range v {
			if t := s.show(item); t != "" {
				all = append(all, t)
			}
		}
		return strings.Join(all, ", ")
	}
	return ""
}
