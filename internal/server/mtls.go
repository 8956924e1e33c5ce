package server

import (
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"os"
	"slices"

	"github.com/countersign-dev/countersign/internal/config"
	"github.com/countersign-dev/countersign/internal/problem"
	"github.com/countersign-dev/countersign/internal/web"
)

// listenMTLS opens the socket at which clients are asked for a certificate. One in
// the file system is for its owner and group.
func listenMTLS(cfg config.MTLS) (net.Listener, error) {
	path, socket := cfg.Socket()
	if !socket {
		return net.Listen("tcp", cfg.Address)
	}
	if st, err := os.Lstat(path); err == nil && st.Mode().Type() == os.ModeSocket {
		if c, err := net.Dial("unix", path); err == nil { // somebody serves there
			return nil, errors.Join(errors.New("mtls.address: another process listens on "+path), c.Close())
		}
		if err := os.Remove(path); err != nil { // one that was left behind
			return nil, err
		}
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(path, 0o660); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return l, nil
}

// noCertificates is for listeners that ask for none: whoever speaks of one there is
// refused, and what they say reaches nobody (mechanisms I19).
func (s *Server) noCertificates() web.ClientCerts { return web.ClientCerts{Refuse: s.refuseCert} }

// mutualCertificates is for the listener that asks for one.
func (s *Server) mutualCertificates() web.ClientCerts {
	m := s.Config.MTLS
	return web.ClientCerts{
		Direct: true, Hops: m.Fingerprints(), Unix: slices.Contains(m.Proxies, "unix"), Origin: m.URL, Refuse: s.refuseCert,
	}
}

func (s *Server) refuseCert(w http.ResponseWriter, r *http.Request, err error) {
	web.RecordOf(r).Add(slog.String("error", "client_cert_refused"), slog.String("cause", err.Error()))
	s.renderAPI(w, r, problem.New(problem.Invalid, "invalid_request", "The header Client-Cert is taken from an authenticated proxy only, once, and as RFC 9440 writes it."))
}

// MutualHandler is everything that the listener which asks for a certificate
// serves: the endpoints of clients and resource servers (RFC 8705 §5). Pages, the
// management API and the log are not there.
func (s *Server) MutualHandler() (http.Handler, error) {
	api := http.NewServeMux()
	s.oauth.API(s.mount(api, s.renderAPI))
	s.mount(api, s.renderAPI)("/", func(http.ResponseWriter, *http.Request) error {
		return problem.New(problem.NotFound, "not_found", "There is nothing at this address.")
	})
	return s.guarded(api, s.Config.MTLS.URL, s.mutualCertificates())
}

// serveMTLS serves the listener, if there is one, until its server is shut down;
// the end of serving comes by ended.
func (s *Server) serveMTLS(l net.Listener, ended chan<- error) (*http.Server, error) {
	if l == nil {
		return &http.Server{}, nil
	}
	h, err := s.MutualHandler()
	if err != nil {
		return nil, err
	}
	srv := s.httpServer(h)
	if _, socket := s.Config.MTLS.Socket(); !socket {
		pair := s.Config.MTLS.TLS
		if pair.CertFile == "" {
			pair = s.Config.Listen.TLS
		}
		// A certificate is asked for and its key shown; who issued it is judged for each
		// client, by what that is registered with.
		if l, err = overTLS(l, pair, tls.RequestClientCert); err != nil {
			return nil, err
		}
	}
	go func() { ended <- srv.Serve(l) }()
	return srv, nil
}

// overTLS wraps a listener in TLS with a certificate from files.
func overTLS(l net.Listener, pair config.TLS, ask tls.ClientAuthType) (net.Listener, error) {
	certs := &certificates{cert: pair.CertFile, key: pair.KeyFile}
	if err := certs.load(); err != nil {
		return nil, err
	}
	return tls.NewListener(l, &tls.Config{
		MinVersion: tls.VersionTLS12, CipherSuites: suites, GetCertificate: certs.get, ClientAuth: ask, NextProtos: []string{"http/1.1"},
	}), nil
}

// suites are those of TLS 1.2 that BCP 195 recommends (FAPI 2.0 §5.2.2); TLS 1.3 has
// no others.
var suites = []uint16{
	tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
	tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384, tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
	tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256, tls.TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
}
