package notify

import (
	"context"
	"errors"
	"fmt"
	"html/template"
	"strings"
	"time"

	"github.com/countersign-dev/countersign/internal/account"
	"github.com/countersign-dev/countersign/internal/audit"
	"github.com/countersign-dev/countersign/internal/notice"
	"github.com/countersign-dev/countersign/internal/problem"
)

// mailKinds are the kinds of record that somebody gets mail of.
func mailKinds() (out []audit.Kind) {
	for _, k := range audit.Kinds() {
		if notice.Mailed(k) || k == audit.AlertRaised {
			out = append(out, k)
		}
	}
	return out
}

// mailChannel is mail to persons, and of alerts to administrators.
func (n *Notifier) mailChannel() channel {
	return channel{name: notice.Mail, stat: 0, kinds: mailKinds(), age: mailAge, messages: n.letters}
}

// letters are the mails about an event.
func (n *Notifier) letters(ctx context.Context, e notice.Event) ([]message, error) {
	if e.Kind == audit.AlertRaised {
		return n.alertLetters(ctx, e)
	}
	var out []message
	for _, t := range e.Persons() {
		p, err := n.Directory.Person(ctx, t.Person)
		if errors.Is(err, problem.NotFound) {
			continue
		}
		if err != nil {
			return nil, err
		}
		to := t.Address
		if to == "" && p.Verified {
			to = p.Email
		}
		if to == "" || t.Proves && to != p.Email { // what is to be proved is the address of now
			continue
		}
		m := message{to: t.Key(), send: func(ctx context.Context) error { return n.toPerson(ctx, e, t, p, to) }}
		if t.Often {
			m.often = t.Person
		}
		out = append(out, m)
	}
	return out, nil
}

// toPerson writes to one person.
func (n *Notifier) toPerson(ctx context.Context, e notice.Event, t notice.Told, p account.Person, to string) error {
	b := body{Greeting: "Hello " + line(p.Name) + ",", Text: t.Text, When: when(e.At), Ref: e.ID, Host: n.Host}
	b.Advice = "If this was you, there is nothing to do. If it was not: open " + n.Host + " as you always do, go to Sessions, end everything, and tell your administrators."
	if n.Links != nil && (t.Proves || t.Link) {
		var err error
		if b.Link, err = n.Links(ctx, e, t.Person, to); err != nil {
			return err
		}
	}
	if t.Proves {
		if b.Link == "" {
			return &failure{why: "there is no link to send", final: true}
		}
		b.Advice = "Open this link to prove the address. It does nothing else, and signs nobody in. If you did not ask for it, somebody mistyped an address: do nothing."
	}
	return n.Mail.send(ctx, b.letter(e.ID+"."+t.Key(), to, p.Name, t.Title, e.At))
}

// alertLetters are the mails to administrators about an alert.
func (n *Notifier) alertLetters(ctx context.Context, e notice.Event) ([]message, error) {
	name, _ := e.Field("alert").(string)
	rule, ok := notice.AlertNamed(name)
	if !ok || !rule.Severity.Routes() || rule.Direct && n.direct.has(e.ID) {
		return nil, nil
	}
	detail, _ := e.Field("detail").(string)
	if of, _ := e.Field("of").(string); of != "" {
		cause, err := n.Log.Event(ctx, of)
		if err != nil && !errors.Is(err, problem.NotFound) {
			return nil, err
		}
		if err == nil {
			detail = strings.TrimSpace(cause.Sentence + ". " + detail)
		}
	}
	return n.toAdministrators(ctx, rule, detail, e.ID, e.At)
}

func (n *Notifier) toAdministrators(ctx context.Context, rule notice.Alert, detail, ref string, at time.Time) ([]message, error) {
	admins, err := n.Directory.Administrators(ctx)
	if err != nil {
		return nil, err
	}
	var out []message
	for _, p := range admins {
		if !p.Verified || p.Email == "" {
			continue
		}
		b := body{Greeting: "Alert (" + string(rule.Severity) + "): " + rule.Title + ".", Text: detail, Advice: rule.Next, When: when(at), Ref: ref, Host: n.Host}
		l := b.letter(ref+"."+p.ID, p.Email, p.Name, "Alert: "+rule.Title, at)
		out = append(out, message{to: p.ID, send: func(ctx context.Context) error { return n.Mail.send(ctx, l) }})
	}
	return out, nil
}

// body is what a mail says.
type body struct {
	Greeting, Text, Advice, Link, When, Ref, Host string
}

// letter writes the mail, plain and as HTML. Nothing is loaded from anywhere, and
// no link leads to a sign-in: people are told to go where they always go.
func (b body) letter(id, to, name, subject string, at time.Time) letter {
	var html strings.Builder
	if err := letterPage.Execute(&html, b); err != nil {
		panic("notify: the template of mails: " + err.Error()) // its values are text
	}
	return letter{id: token(id), to: to, name: line(name), subject: "[" + line(b.Host) + "] " + line(subject), plain: b.plain(), html: html.String(), at: at}
}

func (b body) plain() string {
	parts := []string{b.Greeting, line(b.Text)}
	if b.Link != "" {
		parts = append(parts, b.Link)
	}
	parts = append(parts, b.Advice, fmt.Sprintf("When: %s\nReference: %s", b.When, b.Ref), "-- \nCountersign at "+b.Host)
	return strings.Join(parts, "\n\n") + "\n"
}

var letterPage = template.Must(template.New("mail").Parse(`<!DOCTYPE html>
<html lang="en"><body style="font-family: sans-serif; max-width: 36em">
<p>{{.Greeting}}</p>
<p>{{.Text}}</p>
{{with .Link}}<p><a href="{{.}}">{{.}}</a></p>
{{end}}<p>{{.Advice}}</p>
<p style="color: #555">When: {{.When}}<br>Reference: {{.Ref}}</p>
<p style="color: #555">Countersign at {{.Host}}</p>
</body></html>
`))

func when(t time.Time) string { return t.UTC().Format("2 January 2006, 15:04 UTC") }

// line is text on one line: what people chose themselves cannot begin another.
func line(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r == '\u2028' || r == '\u2029' {
			return ' '
		}
		return r
	}, s)
}

// token is an id as it may stand in the id of a message.
func token(s string) string { return strings.ReplaceAll(s, " ", ".") }
