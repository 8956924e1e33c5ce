package layout

import (
	"errors"
	"slices"
	"strings"
)

// former reads tokens that are Cedar and says where lines may break.
type former struct {
	tokens []token
	at     int
	err    error
}

var errOther = errors.New("this is not the Cedar that can be laid out")

func (f *former) peek() string { return f.tokens[f.at].text }

func (f *former) next() *token {
	t := &f.tokens[f.at]
	if f.at < len(f.tokens)-1 {
		f.at++
	}
	return t
}

// word is the next token, whatever it is.
func (f *former) word() doc { return doc{is: text, token: f.next()} }

// exact is the next token, which is this one.
func (f *former) exact(want string) doc {
	if f.peek() != want && f.err == nil {
		f.err = errOther
	}
	return f.word()
}

// file lays out everything.
func (f *former) file() string {
	var b strings.Builder
	for f.peek() != "" && f.err == nil {
		head := &f.tokens[f.at]
		lead, blank := head.lead, head.blank
		head.lead = nil
		if b.Len() > 0 {
			b.WriteByte('\n')
		}
		heading(&b, lead)
		if blank && len(lead) > 0 {
			b.WriteByte('\n')
		}
		f.annotations(&b)
		render(&b, f.policy())
	}
	if end := f.tokens[len(f.tokens)-1].lead; len(end) > 0 {
		if b.Len() > 0 {
			b.WriteByte('\n')
		}
		heading(&b, end)
	}
	return b.String()
}

// heading writes the comments before a policy, with the empty lines between them.
func heading(b *strings.Builder, all []comment) {
	for i, c := range all {
		if c.blank && i > 0 {
			b.WriteByte('\n')
		}
		b.WriteString(c.text + "\n")
	}
}

// annotation is one of a policy, with the comments that go where it goes.
type annotation struct {
	key, text string
	lead      []comment
	trail     string
}

// annotations writes those of a policy in their order.
func (f *former) annotations(b *strings.Builder) {
	var all []annotation
	for f.peek() == "@" {
		from := f.at
		f.next()
		a := annotation{key: f.next().text}
		if f.peek() == "(" {
			f.at += 3
		}
		f.at = min(f.at, len(f.tokens)-1)
		for i := from; i < f.at; i++ {
			t := &f.tokens[i]
			a.text += t.text
			a.lead = append(a.lead, t.lead...)
			switch {
			case t.trail == "":
			case i == f.at-1:
				a.trail = " " + t.trail
			default:
				a.lead = append(a.lead, comment{text: t.trail})
			}
		}
		all = append(all, a)
	}
	slices.SortStableFunc(all, func(a, b annotation) int { return byKey(a.key, b.key) })
	for _, a := range all {
		for _, c := range a.lead {
			b.WriteString(c.text + "\n")
		}
		b.WriteString(a.text + a.trail + "\n")
	}
}

// policy is an effect with its scope and conditions.
func (f *former) policy() doc {
	p := all(f.word(), space, f.exact("("))
	var scope []doc
	for f.peek() != ")" && f.err == nil {
		scope = append(scope, hard, f.relation())
		if f.peek() == "," {
			scope = append(scope, f.separator())
		}
	}
	p = all(p, nested(scope...), hard, f.exact(")"))
	for f.peek() == "when" || f.peek() == "unless" {
		p = all(p, hard, f.word(), space, grouped(f.exact("{"), nested(line, f.expression()), line, f.exact("}")))
	}
	return all(p, f.exact(";"), hard)
}

// separator is a comma between two, or nothing in place of one after the last.
func (f *former) separator() doc {
	comma := f.next()
	switch f.peek() {
	case ")", "]", "}":
	default:
		return doc{is: text, token: comma}
	}
	if comma.trail == "" {
		return doc{}
	}
	before := &f.tokens[f.at-2] // settled: it has no comment behind it
	before.trail = comma.trail
	return doc{}
}

// list is what stands between brackets, open being the first of them.
func (f *former) list(end string, gap doc, item func() doc) doc {
	open := f.word()
	if f.peek() == end {
		return all(open, f.word())
	}
	inside := []doc{gap}
	for f.peek() != end && f.err == nil {
		inside = append(inside, item())
		if f.peek() != "," {
			break
		}
		inside = append(inside, f.separator())
		if f.peek() != end {
			inside = append(inside, line)
		}
	}
	return grouped(open, nested(inside...), gap, f.exact(end))
}

// expression is the whole of a condition, or what stands in brackets.
func (f *former) expression() doc {
	if f.peek() == "if" {
		first := all(f.word(), space, f.expression())
		then := all(f.exact("then"), space, nested(f.expression()))
		other := all(f.exact("else"), space, nested(f.expression()))
		return grouped(first, nested(line, then), nested(line, other))
	}
	return f.chain("||", func() doc { return f.chain("&&", f.relation) })
}

// chain is operands with an operator between them. Of one within another, the
// lines after the first are indented.
func (f *former) chain(operator string, operand func() doc) doc {
	inner := operator == "&&" && f.at > 0 && f.tokens[f.at-1].text == "||"
	first := operand()
	if f.peek() != operator {
		return first
	}
	var rest []doc
	for f.peek() == operator && f.err == nil {
		rest = append(rest, space, f.word(), line, operand())
	}
	if inner || operator == "&&" && f.peek() == "||" {
		return grouped(first, nested(rest...))
	}
	return grouped(first, all(rest...))
}

// relation compares two sums, or asks about one.
func (f *former) relation() doc {
	left := f.sum()
	switch op := f.peek(); op {
	case "<", "<=", ">", ">=", "!=", "==", "in":
		return all(left, space, f.word(), space, f.sum())
	case "has":
		left = all(left, space, f.word(), space, f.word())
		for f.peek() == "." {
			left = all(left, f.word(), f.word())
		}
	case "like":
		return all(left, space, f.word(), space, f.word())
	case "is":
		left = all(left, space, f.word(), space, f.path())
		if f.peek() == "in" {
			left = all(left, space, f.word(), space, f.sum())
		}
	}
	return left
}

func (f *former) sum() doc {
	left := f.unary()
	for f.peek() == "+" || f.peek() == "-" || f.peek() == "*" {
		left = all(left, space, f.word(), space, f.unary())
	}
	return left
}

func (f *former) unary() doc {
	var signs []doc
	for f.peek() == "-" || f.peek() == "!" {
		signs = append(signs, f.word())
	}
	return all(append(signs, f.member())...)
}

// member is a value and what is asked of it.
func (f *former) member() doc {
	d := f.value()
	for f.err == nil {
		switch f.peek() {
		case ".":
			d = all(d, f.word(), f.word())
			if f.peek() == "(" {
				d = all(d, f.list(")", soft, f.expression))
			}
		case "[":
			d = all(d, f.word(), f.word(), f.exact("]"))
		default:
			return d
		}
	}
	return d
}

func (f *former) value() doc {
	switch f.peek() {
	case "(":
		return grouped(f.word(), nested(soft, f.expression()), soft, f.exact(")"))
	case "[":
		return f.list("]", soft, f.expression)
	case "{":
		return f.list("}", line, func() doc {
			return all(f.word(), f.exact(":"), space, f.expression())
		})
	}
	d := f.path()
	if f.peek() == "(" {
		d = all(d, f.list(")", soft, f.expression))
	}
	return d
}

// path is a name, an entity, or any other single word.
func (f *former) path() doc {
	d := f.word()
	for f.peek() == "::" {
		d = all(d, f.word(), f.word())
	}
	return d
}
