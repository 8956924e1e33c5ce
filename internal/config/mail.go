package config

import (
	"net"
	"net/mail"
	"strings"
)

// How mail is protected on its way to the relay.
const (
	MailStartTLS = "starttls"
	MailImplicit = "implicit"
	MailPlain    = "none"
)

func (m *Mail) defaults() {
	if m.Host == "" {
		return
	}
	if m.TLS == "" {
		m.TLS = MailStartTLS
	}
	if m.Port == 0 {
		m.Port = map[string]int{MailStartTLS: 587, MailImplicit: 465, MailPlain: 25}[m.TLS]
	}
}

// check checks the relay: mail leaves this machine only protected, and passwords
// do, too.
func (m *Mail) check(bad func(string, string, ...any)) {
	if m.Host == "" {
		if *m != (Mail{}) {
			bad("mail.host", "say which relay takes the mail, e.g. smtp.example.com")
		}
		return
	}
	if strings.ContainsAny(m.Host, ":/ ") && net.ParseIP(m.Host) == nil {
		bad("mail.host", "%q is not a host name; the port is mail.port", m.Host)
	}
	if m.Port < 1 || m.Port > 65535 {
		bad("mail.port", "%d is not a port", m.Port)
	}
	switch m.TLS {
	case MailStartTLS, MailImplicit:
	case MailPlain:
		if ip := net.ParseIP(m.Host); m.Host != "localhost" && (ip == nil || !ip.IsLoopback()) {
			bad("mail.tls", "mail leaves this machine only with TLS: starttls or implicit")
		}
	default:
		bad("mail.tls", "starttls, implicit or none, not %q", m.TLS)
	}
	if (m.Username == "") != (m.Password == "") {
		bad("mail.username", "username and password go together")
	}
	for key, text := range map[string]string{"mail.from": m.From, "mail.reply_to": m.ReplyTo} {
		if text == "" && key == "mail.reply_to" {
			continue
		}
		if _, err := mail.ParseAddress(text); err != nil {
			bad(key, "%q is not an address, e.g. Countersign <id@example.com>", text)
		}
	}
}
