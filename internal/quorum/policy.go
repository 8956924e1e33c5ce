package quorum

import (
	"crypto/ed25519"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
)

// Log is a log that a policy accepts.
type Log struct {
	VKey string // its key in note form; the name is the log's origin
	URL  string
}

// Witness is a witness that a policy knows. Name is the policy's own for it.
type Witness struct {
	Name string
	Key  Key
	URL  string // submission prefix (C2SP tlog-witness); "" if there is none
}

// Policy is a trust policy (C2SP tlog-policy): which logs, and which of the witnesses
// must have cosigned.
type Policy struct {
	Logs      []Log
	Witnesses []Witness
	groups    map[string]group
	quorum    string
}

type group struct {
	least   int
	members []string
}

// none is the quorum that asks for no cosignature.
const none = "none"

// maxPolicy is the longest policy in bytes.
const maxPolicy = 256 << 10

// Parse reads a policy, strictly. On error the policy is nil.
func Parse(text []byte) (*Policy, error) {
	if len(text) > maxPolicy {
		return nil, fmt.Errorf("quorum: a policy has at most %d bytes", maxPolicy)
	}
	for _, c := range text {
		if c < ' ' && c != '\t' && c != '\n' || c == 0x7f {
			return nil, errors.New("quorum: a policy has no control characters but tab and newline")
		}
	}
	if len(text) > 0 && text[len(text)-1] != '\n' {
		return nil, errors.New("quorum: the last line of a policy ends with a newline, too")
	}
	p := &parser{Policy: Policy{groups: map[string]group{}}, named: map[string]bool{none: true}, member: map[string]bool{}, keys: map[string]bool{}}
	for i, line := range strings.Split(string(text), "\n") {
		words := strings.FieldsFunc(line, func(r rune) bool { return r == ' ' || r == '\t' })
		if len(words) == 0 || strings.HasPrefix(words[0], "#") {
			continue
		}
		if err := p.line(words); err != nil {
			return nil, fmt.Errorf("quorum: line %d: %w", i+1, err)
		}
	}
	if p.quorum == "" {
		return nil, errors.New("quorum: a policy has one line that says the quorum, e.g. quorum none")
	}
	return &p.Policy, nil
}

type parser struct {
	Policy
	named  map[string]bool // names that are taken
	member map[string]bool // names that are in a group
	keys   map[string]bool // public keys, by use
}

func (p *parser) line(words []string) error {
	args := words[1:]
	switch words[0] {
	case "log":
		return p.log(args)
	case "witness":
		return p.witness(args)
	case "group":
		return p.group(args)
	case "quorum":
		if len(args) != 1 {
			return errors.New("quorum takes one name")
		}
		if p.quorum != "" {
			return errors.New("there is a quorum already")
		}
		if !p.named[args[0]] {
			return fmt.Errorf("%q is not defined before", args[0])
		}
		p.quorum = args[0]
		return nil
	}
	return fmt.Errorf("there is no %q in a policy", words[0])
}

func (p *parser) log(args []string) error {
	if len(args) < 1 || len(args) > 2 {
		return errors.New("log takes a key and may have a URL")
	}
	v, err := note.NewVerifier(args[0])
	if err != nil {
		return fmt.Errorf("the log's key: %w", err)
	}
	if !p.once("log", args[0]) {
		return fmt.Errorf("the key of %s is there already", v.Name())
	}
	l := Log{VKey: args[0]}
	if len(args) == 2 {
		l.URL = args[1]
	}
	p.Logs = append(p.Logs, l)
	return nil
}

// once takes a public key, whatever its name: the material is what counts.
func (p *parser) once(use, vkey string) bool {
	_, material, _ := strings.Cut(vkey, "+")    // behind the name, which has none
	_, material, _ = strings.Cut(material, "+") // and behind the id: in base64 there are more
	key := use + " " + material
	seen := p.keys[key]
	p.keys[key] = true
	return !seen
}

func (p *parser) define(name string) error {
	if p.named[name] {
		return fmt.Errorf("the name %q is taken", name)
	}
	p.named[name] = true
	return nil
}

func (p *parser) witness(args []string) error {
	if len(args) < 2 || len(args) > 3 {
		return errors.New("witness takes a name and a key, and may have a URL")
	}
	k, err := ParseKey(args[1])
	if err != nil {
		return err
	}
	if !p.once("witness", args[1]) {
		return fmt.Errorf("the key of %s is there already", k.Name)
	}
	w := Witness{Name: args[0], Key: k}
	if len(args) == 3 {
		w.URL = args[2]
	}
	p.Witnesses = append(p.Witnesses, w)
	return p.define(w.Name)
}

func (p *parser) group(args []string) error {
	if len(args) < 3 {
		return errors.New("group takes a name, how many (all, any or a number) and members")
	}
	g := group{members: args[2:]}
	switch n, err := strconv.Atoi(args[1]); {
	case args[1] == "all":
		g.least = len(g.members)
	case args[1] == "any":
		g.least = 1
	case err != nil || strconv.Itoa(n) != args[1] || n < 1 || n > len(g.members):
		return fmt.Errorf("%q is not a number from 1 to %d", args[1], len(g.members))
	default:
		g.least = n
	}
	for _, m := range g.members {
		if m == none || !p.named[m] {
			return fmt.Errorf("%q is not defined before", m)
		}
		if p.member[m] {
			return fmt.Errorf("%q is in a group already", m)
		}
		p.member[m] = true
	}
	p.groups[args[0]] = g
	return p.define(args[0])
}

// None reports whether the policy asks for no cosignature.
func (p *Policy) None() bool { return p.quorum == none }

// Keys are the witnesses' keys.
func (p *Policy) Keys() []Key {
	out := make([]Key, len(p.Witnesses))
	for i, w := range p.Witnesses {
		out[i] = w.Key
	}
	return out
}

// Met reports whether the witnesses that have cosigned are enough.
func (p *Policy) Met(by []Cosignature) bool {
	return p.quorum == none || p.met(p.quorum, by)
}

func (p *Policy) met(name string, by []Cosignature) bool {
	if g, ok := p.groups[name]; ok {
		n := 0
		for _, m := range g.members {
			if p.met(m, by) {
				n++
			}
		}
		return n >= g.least
	}
	for _, w := range p.Witnesses {
		if w.Name == name {
			return slices.ContainsFunc(by, func(c Cosignature) bool {
				return c.Key.Name == w.Key.Name && c.Key.Public.Equal(ed25519.PublicKey(w.Key.Public))
			})
		}
	}
	return false
}

// Check verifies a checkpoint against the policy's witnesses and says whether their
// quorum is met, and by which cosignatures. The log's own signature is not looked at.
func (p *Policy) Check(checkpoint []byte) (met bool, by []Cosignature, err error) {
	if by, err = Cosignatures(checkpoint, p.Keys()); err != nil {
		return false, nil, err
	}
	return p.Met(by), by, nil
}
