package notify

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/countersign-dev/countersign/internal/secret"
	"github.com/countersign-dev/countersign/test/mailtest"
)

var noon = time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC)

func mailer(t *testing.T, s *mailtest.Server, edit func(*MailConfig)) *Mailer {
	t.Helper()
	c := MailConfig{Host: s.Host, Port: s.Port, TLS: StartTLS, From: "Countersign <id@example.com>", CAs: s.CAs}
	if edit != nil {
		edit(&c)
	}
	m, err := NewMailer(c, "id.example.com:8443")
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func sample() letter {
	return body{
		Greeting: "Hello Dana,", Text: "Passkey, <b>Läptop</b>, was added to your account.", Advice: "If not, say so.", When: when(noon), Ref: "rec_1", Host: "id.example.com",
	}.letter("rec_1.usr_1", "dana@example.com", "Dana\r\nBcc: eve@example.com", "Added\nBcc: eve@example.com", noon)
}

// A mail arrives as it was meant, over TLS, whichever way the relay has it; what
// people chose themselves begins no line and no markup of its own.
func TestMailArrives(t *testing.T) {
	for name, c := range map[string]struct {
		options []mailtest.Option
		edit    func(*MailConfig)
	}{
		"starttls":       {},
		"implicit":       {[]mailtest.Option{mailtest.Implicit()}, func(c *MailConfig) { c.TLS = ImplicitTLS }},
		"authenticated":  {[]mailtest.Option{mailtest.WithAuth("cs", "pw 1")}, func(c *MailConfig) { c.Username, c.Password = "cs", secret.Given("pw 1") }},
		"this machine's": {[]mailtest.Option{mailtest.WithoutTLS()}, func(c *MailConfig) { c.TLS = NoTLS }},
	} {
		t.Run(name, func(t *testing.T) {
			s := mailtest.Start(t, c.options...)
			if err := mailer(t, s, c.edit).send(t.Context(), sample()); err != nil {
				t.Fatal(err)
			}
			got := s.Wait(t, 1)
			m := got[0]
			if len(got) != 1 || m.From != "id@example.com" || m.To != "dana@example.com" || m.TLS != (name != "this machine's") {
				t.Errorf("%+v", m)
			}
			if m.Subject != "[id.example.com] Added Bcc: eve@example.com" || m.Header.Get("Bcc") != "" {
				t.Errorf("subject %q, bcc %q", m.Subject, m.Header.Get("Bcc"))
			}
			if m.Header.Get("Message-ID") != "<rec_1.usr_1@id.example.com>" || m.Header.Get("Auto-Submitted") != "auto-generated" {
				t.Errorf("%v", m.Header)
			}
			if !strings.Contains(m.Plain, "Passkey, <b>Läptop</b>, was added") || !strings.Contains(m.HTML, "&lt;b&gt;Läptop&lt;/b&gt;") || strings.Contains(m.HTML, "<b>") {
				t.Errorf("%s\n%s", m.Plain, m.HTML)
			}
			if strings.Contains(m.Plain, "://") || strings.Contains(m.HTML, "href") || strings.Contains(m.HTML, "src=") {
				t.Errorf("there is a link, or something to load:\n%s\n%s", m.Plain, m.HTML)
			}
		})
	}
}

// A relay without TLS, with a certificate of nobody, or that takes no password
// gets no mail and no password.
func TestMailIsNotGivenAway(t *testing.T) {
	plain := mailtest.Start(t, mailtest.WithoutTLS(), mailtest.WithAuth("cs", "pw"))
	other := mailtest.Start(t)
	strict := mailtest.Start(t, mailtest.WithAuth("cs", "pw"))
	for name, m := range map[string]*Mailer{
		"no STARTTLS":    mailer(t, plain, func(c *MailConfig) { c.Username, c.Password = "cs", secret.Given("pw") }),
		"unknown issuer": mailer(t, other, func(c *MailConfig) { c.CAs = plain.CAs }),
		"wrong password": mailer(t, strict, func(c *MailConfig) { c.Username, c.Password = "cs", secret.Given("other") }),
		"no password":    mailer(t, strict, nil),
	} {
		err := m.send(t.Context(), sample())
		var f *failure
		if !errors.As(err, &f) || !f.down || f.final {
			t.Errorf("%s: %v", name, err)
		}
	}
	if n := len(plain.Messages()) + len(other.Messages()) + len(strict.Messages()); n != 0 {
		t.Errorf("%d mails arrived", n)
	}
	if err := mailer(t, strict, func(c *MailConfig) { c.Username, c.Password = "cs", secret.Given("pw") }).send(t.Context(), sample()); err != nil {
		t.Errorf("positive control: %v", err)
	}
}

// What a relay answers about one address is of that address; anything else is of
// the way to all. What is kept of it quotes nobody.
func TestMailFailuresAreTold(t *testing.T) {
	s := mailtest.Start(t)
	m := mailer(t, s, nil)
	for reply, want := range map[string]failure{
		"550 5.1.1 <dana@example.com> unknown": {why: "the mail relay refused it: 550 5.1.1", final: true},
		"450 4.2.1 greylisted dana":            {why: "the mail relay refused it: 450 4.2.1"},
		"":                                     {},
	} {
		s.Answer("dana@example.com", reply)
		err := m.send(t.Context(), sample())
		var f *failure
		if errors.As(err, &f) != (reply != "") || f != nil && *f != want {
			t.Errorf("%q: %+v", reply, err)
		}
	}
	s.Down(true)
	var f *failure
	if err := m.send(t.Context(), sample()); !errors.As(err, &f) || !f.down {
		t.Errorf("a relay that is down: %v", err)
	}
	odd := sample()
	odd.to = "no address"
	if err := m.send(t.Context(), odd); !errors.As(err, &f) || !f.final {
		t.Errorf("an address that is none: %v", err)
	}
}
