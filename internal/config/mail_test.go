package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestMail(t *testing.T) {
	password := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(password, []byte("pw 1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	parse := func(lines ...string) (*Config, error) {
		text := "issuer: https://a.example\nlisten: {address: ':1'}\ndata_dir: d\ndatabase: {sqlite: x}\n"
		if len(lines) > 0 {
			text += "mail:\n  " + strings.Join(lines, "\n  ") + "\n"
		}
		return Parse([]byte(text), nil)
	}
	const from = "from: Countersign <id@example.com>"
	if c, err := parse(); err != nil || c.Mail != (Mail{}) {
		t.Errorf("none: %+v, %v", c, err)
	}
	c, err := parse("host: smtp.example.com", from, "username: u", "password_file: "+password)
	if err != nil || c.Mail.TLS != MailStartTLS || c.Mail.Port != 587 || c.Mail.Password != "pw 1" {
		t.Errorf("%+v, %v", c, err)
	}
	if c, err = parse("host: smtp.example.com", from, "tls: implicit"); err != nil || c.Mail.Port != 465 {
		t.Errorf("%+v, %v", c, err)
	}
	for _, host := range []string{"localhost", "127.0.0.1", "'::1'"} {
		if c, err = parse("host: "+host, from, "tls: none"); err != nil || c.Mail.Port != 25 {
			t.Errorf("%s: %v", host, err)
		}
	}
	for want, lines := range map[string][]string{
		"mail.host: say which relay":         {from},
		"the port is mail.port":              {"host: smtp.example.com:25", from},
		"mail.tls: mail leaves this machine": {"host: smtp.example.com", from, "tls: none"},
		"mail.tls: starttls, implicit":       {"host: smtp.example.com", from, "tls: maybe"},
		"mail.port: 99999":                   {"host: smtp.example.com", from, "port: 99999"},
		"go together":                        {"host: smtp.example.com", from, "username: u"},
		`mail.from: ""`:                      {"host: smtp.example.com"},
		"mail.reply_to":                      {"host: smtp.example.com", from, "reply_to: nobody"},
		"set it or mail.password_file":       {"host: smtp.example.com", from, "username: u", "password: x", "password_file: " + password},
	} {
		if _, err := parse(lines...); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want %q: %v", want, err)
		}
	}
}
