// Package mailtest is a mail relay for tests: a real SMTP server on a loopback
// socket (RFC 5321) with STARTTLS, implicit TLS and AUTH PLAIN, that keeps what it
// is given and refuses what it is told to.
package mailtest

import (
	"bufio"
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"mime"
	"mime/multipart"
	"mime/quotedprintable"
	"net"
	"net/mail"
	"net/textproto"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// Message is a mail as it arrived.
type Message struct {
	From, To string // of the envelope
	Raw      []byte
	Header   mail.Header
	Subject  string
	Plain    string
	HTML     string
	TLS      bool
	User     string // who authenticated
}

// Server is a relay. Its fields are set before the first connection, or through
// its methods.
type Server struct {
	Host string
	Port int
	CAs  *x509.CertPool // that its certificate is verified by
	PEM  []byte         // the same, for a file

	noTLS    bool
	implicit bool
	user     string
	password string

	listener net.Listener
	tls      *tls.Config
	wg       sync.WaitGroup

	mu       sync.Mutex
	got      []Message
	answers  map[string]string // to RCPT TO of an address
	down     bool
	hang     bool
	conns    map[net.Conn]bool
	accepted int
}

// Option is how a relay differs from one with STARTTLS and no authentication.
type Option func(*Server)

// WithoutTLS has the relay offer no TLS.
func WithoutTLS() Option { return func(s *Server) { s.noTLS = true } }

// Implicit has the relay speak TLS from the first byte.
func Implicit() Option { return func(s *Server) { s.implicit = true } }

// WithAuth has the relay demand AUTH PLAIN.
func WithAuth(user, password string) Option {
	return func(s *Server) { s.user, s.password = user, password }
}

// Start starts a relay that stops with the test.
func Start(t testing.TB, options ...Option) *Server {
	t.Helper()
	s := &Server{Host: "127.0.0.1", answers: map[string]string{}, conns: map[net.Conn]bool{}}
	for _, o := range options {
		o(s)
	}
	var err error
	if s.tls, s.CAs, s.PEM, err = certificate(); err != nil {
		t.Fatal(err)
	}
	if s.listener, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	s.Port = s.listener.Addr().(*net.TCPAddr).Port
	s.wg.Go(s.accept)
	t.Cleanup(func() {
		s.listener.Close()
		s.mu.Lock()
		for c := range s.conns {
			c.Close()
		}
		s.mu.Unlock()
		s.wg.Wait()
	})
	return s
}

func certificate() (*tls.Config, *x509.CertPool, []byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, nil, err
	}
	tpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "relay"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, DNSNames: []string{"localhost"}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, tpl, tpl, key.Public(), key)
	if err != nil {
		return nil, nil, nil, err
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, nil, nil, err
	}
	pool := x509.NewCertPool()
	pool.AddCert(cert)
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}, pool, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), nil
}

// Answer has the relay answer RCPT TO of an address with a reply such as
// "550 5.1.1 nobody"; "" takes it again.
func (s *Server) Answer(address, reply string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.answers[address] = reply
}

// Down has the relay greet with 421, or serve again.
func (s *Server) Down(down bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.down = down
}

// Hang has the relay accept connections and say nothing, or serve again.
func (s *Server) Hang(hang bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.hang = hang
}

// Connections is how many connections there were.
func (s *Server) Connections() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.accepted
}

// Messages are all mails that arrived, oldest first.
func (s *Server) Messages() []Message {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.got)
}

// Wait waits until n mails have arrived and gives them; the test fails if they do
// not within a minute.
func (s *Server) Wait(t testing.TB, n int) []Message {
	t.Helper()
	for end := time.Now().Add(time.Minute); ; time.Sleep(5 * time.Millisecond) {
		if got := s.Messages(); len(got) >= n {
			return got
		}
		if time.Now().After(end) {
			t.Fatalf("%d mails arrived, not %d", len(s.Messages()), n)
		}
	}
}

func (s *Server) accept() {
	for {
		c, err := s.listener.Accept()
		if err != nil {
			return
		}
		s.mu.Lock()
		s.conns[c] = true
		s.accepted++
		s.mu.Unlock()
		s.wg.Go(func() {
			defer func() {
				c.Close()
				s.mu.Lock()
				delete(s.conns, c)
				s.mu.Unlock()
			}()
			_ = c.SetDeadline(time.Now().Add(time.Minute))
			s.serve(c)
		})
	}
}

// conversation is one connection.
type conversation struct {
	s    *Server
	c    net.Conn
	r    *bufio.Reader
	tls  bool
	user string
	from string
	to   []string
}

func (v *conversation) say(line string) { fmt.Fprintf(v.c, "%s\r\n", line) }

func (s *Server) serve(c net.Conn) {
	v := &conversation{s: s, c: c, r: bufio.NewReader(c)}
	if s.implicit {
		v.secure()
	}
	s.mu.Lock()
	down, hang := s.down, s.hang
	s.mu.Unlock()
	if hang {
		_, _ = io.Copy(io.Discard, c)
		return
	}
	if down {
		v.say("421 4.3.2 not now")
		return
	}
	v.say("220 relay ESMTP")
	for {
		line, err := v.r.ReadString('\n')
		if err != nil || !v.command(strings.TrimRight(line, "\r\n")) {
			return
		}
	}
}

func (v *conversation) secure() {
	c := tls.Server(v.c, v.s.tls)
	v.c, v.r, v.tls = c, bufio.NewReader(c), true
}

// command answers one command; false ends the conversation.
func (v *conversation) command(line string) bool {
	verb, rest, _ := strings.Cut(line, " ")
	verb = strings.ToUpper(verb)
	switch {
	case verb == "EHLO" || verb == "HELO":
		v.hello()
	case verb == "STARTTLS" && !v.s.noTLS && !v.tls:
		v.say("220 go ahead")
		v.secure()
	case verb == "AUTH":
		v.auth(rest)
	case v.s.user != "" && v.user == "" && verb == "MAIL":
		v.say("530 5.7.0 authenticate")
	case verb == "MAIL":
		v.from, v.to = address(rest), nil
		v.say("250 2.1.0 ok")
	case verb == "RCPT":
		v.rcpt(address(rest))
	case verb == "DATA":
		return v.data()
	case verb == "QUIT":
		v.say("221 2.0.0 bye")
		return false
	case verb == "NOOP" || verb == "RSET":
		v.say("250 2.0.0 ok")
	default:
		v.say("502 5.5.1 no")
	}
	return true
}

func (v *conversation) hello() {
	lines := []string{"relay", "8BITMIME", "ENHANCEDSTATUSCODES", "SMTPUTF8"}
	if !v.s.noTLS && !v.tls {
		lines = append(lines, "STARTTLS")
	}
	if v.s.user != "" && (v.tls || v.s.noTLS) {
		lines = append(lines, "AUTH PLAIN")
	}
	for i, l := range lines {
		mark := "-"
		if i == len(lines)-1 {
			mark = " "
		}
		v.say("250" + mark + l)
	}
}

func (v *conversation) auth(rest string) {
	_, text, _ := strings.Cut(rest, " ")
	raw, err := base64.StdEncoding.DecodeString(text)
	if err != nil || string(raw) != "\x00"+v.s.user+"\x00"+v.s.password {
		v.say("535 5.7.8 no")
		return
	}
	v.user = v.s.user
	v.say("235 2.7.0 ok")
}

func (v *conversation) rcpt(to string) {
	v.s.mu.Lock()
	reply := v.s.answers[to]
	v.s.mu.Unlock()
	if reply != "" {
		v.say(reply)
		return
	}
	v.to = append(v.to, to)
	v.say("250 2.1.5 ok")
}

func (v *conversation) data() bool {
	v.say("354 go on")
	raw, err := textproto.NewReader(v.r).ReadDotBytes()
	if err != nil {
		return false
	}
	m, err := read(raw)
	if err != nil {
		v.say("554 5.6.0 that is no mail")
		return true
	}
	v.s.mu.Lock()
	for _, to := range v.to {
		m.From, m.To, m.TLS, m.User = v.from, to, v.tls, v.user
		v.s.got = append(v.s.got, m)
	}
	v.s.mu.Unlock()
	v.say("250 2.0.0 taken")
	return true
}

// address is what stands between < and >.
func address(s string) string {
	_, s, _ = strings.Cut(s, "<")
	s, _, _ = strings.Cut(s, ">")
	return s
}

func read(raw []byte) (Message, error) {
	m := Message{Raw: raw}
	p, err := mail.ReadMessage(bytes.NewReader(raw))
	if err != nil {
		return m, err
	}
	m.Header = p.Header
	if m.Subject, err = new(mime.WordDecoder).DecodeHeader(p.Header.Get("Subject")); err != nil {
		return m, err
	}
	typ, params, err := mime.ParseMediaType(p.Header.Get("Content-Type"))
	if err != nil {
		return m, err
	}
	if !strings.HasPrefix(typ, "multipart/") {
		m.Plain, err = decoded(p.Body, p.Header.Get("Content-Transfer-Encoding"))
		return m, err
	}
	for r := multipart.NewReader(p.Body, params["boundary"]); ; {
		part, err := r.NextRawPart()
		if err == io.EOF {
			return m, nil
		}
		if err != nil {
			return m, err
		}
		text, err := decoded(part, part.Header.Get("Content-Transfer-Encoding"))
		if err != nil {
			return m, err
		}
		if strings.HasPrefix(part.Header.Get("Content-Type"), "text/html") {
			m.HTML = text
		} else {
			m.Plain = text
		}
	}
}

func decoded(r io.Reader, encoding string) (string, error) {
	switch strings.ToLower(encoding) {
	case "quoted-printable":
		r = quotedprintable.NewReader(r)
	case "base64":
		r = base64.NewDecoder(base64.StdEncoding, r)
	}
	b, err := io.ReadAll(r)
	return strings.ReplaceAll(string(b), "\r\n", "\n"), err
}
