package notice

import "github.com/countersign-dev/countersign/internal/audit"

// Event is a record of the log, opened, as channels tell of it.
type Event struct {
	audit.Line
	fields []map[string]any
	say    func(words string) string
}

// NewEvent makes an event of a record. parts are as audit.Open gave them, names
// as for audit.Sentence.
func NewEvent(seq int64, row audit.Row, parts []audit.OpenPart, names func(id string) string) Event {
	e := Event{Line: audit.LineOf(seq, row, parts, names)}
	e.say = func(words string) string { return audit.Say(words, row, parts, names) }
	for _, p := range parts {
		if f := p.Fields(); f != nil {
			e.fields = append(e.fields, f)
		}
	}
	return e
}

// Field is the member of that name in a part, the first that has it.
func (e Event) Field(name string) any {
	for _, f := range e.fields {
		if v, ok := f[name]; ok {
			return v
		}
	}
	return nil
}

// text is Field for text; "" for anything else.
func (e Event) text(name string) string {
	s, _ := e.Field(name).(string)
	return s
}

// Told is what one person is told.
type Told struct {
	Person string
	Title  string
	Text   string
	// Address, where it is not the verified one of the account: a changed address
	// that is told of the change, or one that is to be proved.
	Address string
	Proves  bool // the message carries the link that proves Address
	Link    bool // a link of the noun may stand in it, see Links in notify
	Often   bool // may happen often: one person is told only so much of it in an hour
}

// Key tells apart what one event has to say, for as long as it is tried again.
func (t Told) Key() string {
	if t.Address != "" && !t.Proves {
		return t.Person + " before"
	}
	return t.Person
}

// Persons gives what persons are told of an event, each at most twice: at the
// address they have, and at one they had. Nobody is told of what was refused.
func (e Event) Persons() []Told {
	r := table[e.Kind]
	if r.to == nobody || r.title == "" || e.Refused || r.only != nil && !r.only(e.Line) {
		return nil
	}
	person := e.about(r.to)
	if person == "" {
		return nil
	}
	t := Told{Person: person, Title: e.say(r.title), Text: e.say(r.text), Link: r.link, Often: r.often}
	if r.proves {
		t.Address, t.Proves = e.text("address"), true
		if t.Address == "" {
			return nil
		}
	}
	out := []Told{t}
	if before := e.text("before"); r.before && before != "" {
		t.Address = before
		out = append(out, t)
	}
	return out
}

func (e Event) about(w whom) string {
	switch {
	case len(e.Line.Persons) == 0:
		return ""
	case w == object && len(e.Line.Persons) > 1:
		return e.Line.Persons[1]
	}
	return e.Line.Persons[0]
}

// byOther reports whether somebody else did it to the person: an administrator,
// the operator, or the server.
func byOther(l audit.Line) bool { return l.ByOther }

// Shown reports whether a line stands among the security events of the account of
// whom it concerns.
func Shown(l audit.Line) bool {
	r := table[l.Kind]
	return r.to != nobody && (r.only == nil || r.only(l))
}

// told reports whether anybody is told of a kind at all.
func (r rule) told() bool { return r.to != nobody || r.admins }

// Known reports whether the table says who is told of a kind, even if nobody is.
func Known(k audit.Kind) bool { _, ok := table[k]; return ok }

// Mailed reports whether a person may get mail of a kind of record.
func Mailed(k audit.Kind) bool { return table[k].to != nobody && table[k].title != "" }
