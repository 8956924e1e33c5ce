package canon

import (
	"strconv"
	"strings"

	"github.com/gowebpki/jcs"
)

const maxInteger = 1<<53 - 1

// number reads a number and gives its canonical form, provided that this has
// exactly the value that was written.
func (p *parser) number() (string, error) {
	start := p.at
	if !p.lexeme() {
		return "", p.syntax()
	}
	lexeme := string(p.in[start:p.at])
	inexact := refuse("number_not_exact", "The number at byte %d changes its value when it is made canonical.", start)
	f, err := strconv.ParseFloat(lexeme, 64)
	canonical, infinite := jcs.NumberToJSON(f)
	if err != nil || infinite != nil {
		return "", inexact
	}
	if f == float64(int64(f)) && (f > maxInteger || f < -maxInteger) || f >= 1<<63 || f < -(1<<63) {
		return "", inexact
	}
	if decimalOf(lexeme) != decimalOf(canonical) {
		return "", inexact
	}
	return canonical, nil
}

// lexeme moves over a number of RFC 8259 §6.
func (p *parser) lexeme() bool {
	digits := func() bool {
		start := p.at
		for p.at < len(p.in) && '0' <= p.in[p.at] && p.in[p.at] <= '9' {
			p.at++
		}
		return p.at > start
	}
	is := func(set string) bool {
		if p.at < len(p.in) && strings.IndexByte(set, p.in[p.at]) >= 0 {
			p.at++
			return true
		}
		return false
	}
	is("-")
	if !is("0") && !digits() {
		return false
	}
	if is(".") && !digits() {
		return false
	}
	if is("eE") {
		is("+-")
		return digits()
	}
	return true
}

// decimal is an exact decimal value: ± 0.digits × 10^exp, without leading or
// trailing zeros among the digits, so that equal values are equal structs.
type decimal struct {
	negative bool
	digits   string
	exp      int64
}

// decimalOf gives the exact value of a valid number. An exponent too large to
// count with stands for itself: no canonical form has one.
func decimalOf(s string) decimal {
	var d decimal
	s, d.negative = strings.CutPrefix(s, "-")
	mantissa, exponent := s, ""
	if i := strings.IndexAny(s, "eE"); i >= 0 {
		mantissa, exponent = s[:i], s[i+1:]
	}
	whole, fraction, _ := strings.Cut(mantissa, ".")
	all := whole + fraction
	d.digits = strings.TrimLeft(all, "0")
	d.exp = int64(len(whole) - (len(all) - len(d.digits)))
	d.digits = strings.TrimRight(d.digits, "0")
	if d.digits == "" {
		return decimal{}
	}
	if exponent != "" {
		e, err := strconv.ParseInt(exponent, 10, 32)
		if err != nil {
			return decimal{digits: "inexact"}
		}
		d.exp += e
	}
	return d
}
