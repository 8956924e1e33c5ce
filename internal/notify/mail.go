package notify

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	netmail "net/mail"
	"strconv"
	"time"

	"github.com/wneessen/go-mail"

	"github.com/countersign-dev/countersign/internal/secret"
	"github.com/countersign-dev/countersign/internal/web"
)

// How mail is protected on its way to the relay.
const (
	StartTLS    = "starttls" // required: a relay without it gets nothing
	ImplicitTLS = "implicit"
	NoTLS       = "none" // on this machine only; the configuration checks that
)

// MailConfig says how mail is handed to a relay.
type MailConfig struct {
	Host     string
	Port     int
	TLS      string // StartTLS, ImplicitTLS or NoTLS
	Username string // "": no authentication
	Password secret.Value
	From     string // address, with a name if wanted
	ReplyTo  string // "": none
	CAs      *x509.CertPool
}

// Mailer hands messages to one relay. Its address is the operator's own word, so
// the guard on outbound calls lets it be any; everything else of the guard holds.
type Mailer struct {
	cfg    MailConfig
	from   *netmail.Address
	domain string
	egress web.Egress
}

// NewMailer makes a mailer; it connects to nothing yet. domain stands in the ids
// of messages: the issuer's host.
func NewMailer(c MailConfig, domain string) (*Mailer, error) {
	from, err := netmail.ParseAddress(c.From)
	if err != nil {
		return nil, fmt.Errorf("mail: from: %w", err)
	}
	if host, _, err := net.SplitHostPort(domain); err == nil {
		domain = host
	}
	return &Mailer{cfg: c, from: from, domain: domain, egress: web.Egress{Allow: []string{net.JoinHostPort(c.Host, strconv.Itoa(c.Port))}, Timeout: sendTime}}, nil
}

func (m *Mailer) client() (*mail.Client, error) {
	conf := &tls.Config{ServerName: m.cfg.Host, RootCAs: m.cfg.CAs, MinVersion: tls.VersionTLS12}
	options := []mail.Option{mail.WithPort(m.cfg.Port), mail.WithTimeout(sendTime), mail.WithHELO(m.domain), mail.WithTLSConfig(conf), mail.WithoutNoop(), mail.WithoutRset()}
	dial := m.egress.Dial
	switch m.cfg.TLS {
	case ImplicitTLS:
		dial = func(ctx context.Context, network, addr string) (net.Conn, error) {
			raw, err := m.egress.Dial(ctx, network, addr)
			if err != nil {
				return nil, err
			}
			c := tls.Client(raw, conf)
			if err := c.HandshakeContext(ctx); err != nil {
				return nil, errors.Join(err, raw.Close())
			}
			return c, nil
		}
		options = append(options, mail.WithSSL())
	case NoTLS:
		options = append(options, mail.WithTLSPolicy(mail.NoTLS))
	default:
		options = append(options, mail.WithTLSPolicy(mail.TLSMandatory))
	}
	options = append(options, mail.WithDialContextFunc(dial))
	if m.cfg.Username != "" {
		options = append(options, mail.WithSMTPAuth(mail.SMTPAuthAutoDiscover), mail.WithUsername(m.cfg.Username), mail.WithPassword(m.cfg.Password.Reveal()))
	}
	return mail.NewClient(m.cfg.Host, options...)
}

// letter is a message to one address.
type letter struct {
	id      string // stays the same for the same message
	to      string // address
	name    string // of the person; "" if not known
	subject string
	plain   string
	html    string
	at      time.Time
}

// send hands a letter to the relay. Its errors are failures.
func (m *Mailer) send(ctx context.Context, l letter) error {
	msg := mail.NewMsg(mail.WithCharset(mail.CharsetUTF8))
	msg.FromMailAddress(m.from)
	if err := msg.AddToFormat(l.name, l.to); err != nil {
		return &failure{why: "the address cannot be written to", final: true}
	}
	if m.cfg.ReplyTo != "" {
		if err := msg.ReplyTo(m.cfg.ReplyTo); err != nil {
			return &failure{why: "mail.reply_to is no address", down: true}
		}
	}
	msg.Subject(l.subject)
	msg.SetDateWithValue(l.at)
	msg.SetMessageIDWithValue(l.id + "@" + m.domain)
	msg.SetGenHeader("Auto-Submitted", "auto-generated") // RFC 3834: no answers from robots
	msg.SetUserAgent("Countersign")
	msg.SetBodyString(mail.TypeTextPlain, l.plain)
	msg.AddAlternativeString(mail.TypeTextHTML, l.html)
	c, err := m.client()
	if err != nil {
		return &failure{why: "the mail settings cannot be used", down: true}
	}
	if err := c.DialWithContext(ctx); err != nil {
		return judged(err)
	}
	err = c.Send(msg)
	_ = c.Close() // what the relay has taken is taken, whether or not it says goodbye
	return judged(err)
}

// judged says what an error of sending means: of the one address, or of the way
// to all of them. The relay's words may quote an address, so only its codes are
// kept.
func judged(err error) error {
	if err == nil {
		return nil
	}
	var s *mail.SendError
	if !errors.As(err, &s) {
		return &failure{why: "the mail relay cannot be used: " + reached(err), down: true}
	}
	why := "the mail relay refused it"
	if code := s.ErrorCode(); code != 0 {
		why += ": " + strconv.Itoa(code)
		if e := s.EnhancedStatusCode(); e != "" {
			why += " " + e
		}
	}
	f := &failure{why: why}
	switch s.Reason {
	case mail.ErrSMTPRcptTo, mail.ErrSMTPData, mail.ErrSMTPDataClose:
		f.final = !s.IsTemp()
	case mail.ErrGetRcpts, mail.ErrNoUnencoded: // an address that this relay cannot write to
		f.final = true
	case mail.ErrWriteContent, mail.ErrAmbiguous:
	default: // the sender, or the conversation as a whole
		f.down = true
	}
	return f
}

// reached says how far the way to a receiver went, without its words.
func reached(err error) string {
	var dns *net.DNSError
	var cert *tls.CertificateVerificationError
	switch {
	case errors.Is(err, web.ErrEgress):
		return "its address is not one that may be called"
	case errors.Is(err, context.DeadlineExceeded):
		return "it did not answer in time"
	case errors.As(err, &dns):
		return "its name is not known"
	case errors.As(err, &cert):
		return "its certificate is not valid"
	case errors.As(err, new(*net.OpError)):
		return "there is no connection"
	}
	return "the conversation failed"
}
