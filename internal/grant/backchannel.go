package grant

import (
	"cmp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/countersign-dev/countersign/internal/client"
	"github.com/countersign-dev/countersign/internal/resource"
)

// How long a backchannel authentication request waits for its person: what it asks
// for (CIBA Core §7.1, requested_expiry), within limits. The longest is no longer
// than any other interaction.
const (
	BackchannelLifetime = 5 * time.Minute
	BackchannelShortest = 30 * time.Second
	BackchannelLongest  = InteractionLifetime
)

// BackchannelLife is how long a request lives that asks for seconds, "" for the usual
// time; ok is false if that is no number of seconds.
func BackchannelLife(seconds string) (life time.Duration, ok bool) {
	if seconds == "" {
		return BackchannelLifetime, true
	}
	n, err := strconv.ParseUint(seconds, 10, 31)
	if err != nil || n == 0 {
		return 0, false
	}
	return min(max(time.Duration(n)*time.Second, BackchannelShortest), BackchannelLongest), true
}

// MaxBinding is how many characters a binding_message has at most.
const MaxBinding = 60

// CheckBinding reports whether a message can be compared on two screens (CIBA Core
// §7.1, binding_message): letters and digits of any script, and a few signs, with
// single spaces between. Nothing that is not seen, that changes the order of what is
// seen, or that is put on top of something else.
func CheckBinding(message string) bool {
	if !utf8.ValidString(message) || message == "" || utf8.RuneCountInString(message) > MaxBinding ||
		strings.TrimSpace(message) != message || strings.Contains(message, "  ") {
		return false
	}
	for _, r := range message {
		if !unicode.IsLetter(r) && !unicode.IsDigit(r) && !strings.ContainsRune(" -.,:;#*+()!?%&=€$£'", r) || unseenLetters[r] {
			return false
		}
	}
	return true
}

// unseenLetters are letters, says Unicode, that are drawn as nothing.
var unseenLetters = map[rune]bool{'\u115f': true, '\u1160': true, '\u3164': true, '\uffa0': true}

// NewNumber makes the two digits that a client shows and its person types.
func NewNumber() string { return draw("123456789", 1) + draw("0123456789", 1) }

// ReadNumber reads what somebody typed, with any spaces.
func ReadNumber(typed string) string {
	return strings.Join(strings.Fields(typed[:min(len(typed), 64)]), "")
}

// Backchannel is a backchannel authentication request (CIBA Core §7.1) waiting for
// the person it names: the data of a once.Backchannel and of a
// once.BackchannelAsked value.
type Backchannel struct {
	Decoupled
	Details []resource.Element `json:"authorization_details,omitempty"`
	Binding string             `json:"binding_message,omitempty"` // the client's own words
	Number  string             `json:"number,omitempty"`          // which the person types; "" if the client shows none
	Ping    string             `json:"ping,omitempty"`            // sealed: what its client is told with; "" of one that polls
	Name    string             `json:"name,omitempty"`            // of its values, where a browser holds it
}

// Request is a backchannel authentication request as its person sees it in a list.
type Request struct {
	Backchannel
	App client.Client
}

// Said is what a person says to a request.
type Said string

// What they can say.
const (
	Allow  Said = "allow"
	Deny   Said = "deny"
	Report Said = "report" // deny, and they did not start it
)

// What became of a request: Ref of the once.BackchannelAsked value that it spent.
const (
	AskAllowed  = "allowed"
	AskDenied   = "denied"
	AskMistyped = "mistyped" // the number, too often
	AskReported = "reported" // the person did not start it
)

// Asked is a request that a person was asked, as far as asking them again depends on
// it.
type Asked struct {
	Client string
	Began  time.Time
	Until  time.Time
	EndsAt time.Time // when it was answered, or Until
	Became string    // AskAllowed, …; "" of one that was not answered
}

// The limits of asking one person.
const (
	MaxAsked    = 3 // requests to one person within AskedWithin that they did not allow, whoever asked
	AskedWithin = 15 * time.Minute
	ReportedFor = 24 * time.Hour
	maxCoolDown = time.Hour
)

// weight is how much what became of a request adds to the time before its client may
// ask the same person again.
var weight = map[string]int{"": 1, AskDenied: 4, AskMistyped: 4, AskReported: 4}

// AskAgain says when a client may ask a person next, for all that it asked them
// before: the zero time for at once. After a request that was not allowed it waits:
// a minute after one that nobody answered, twice as long with each further one; eight
// minutes after a no, which is as much as four. What they allow ends that. reported
// says that it has to wait because the person did not start what it asked.
func AskAgain(all []Asked, client string, now time.Time) (at time.Time, reported bool) {
	mine := slices.DeleteFunc(slices.Clone(all), func(a Asked) bool { return a.Client != client || a.Became == "" && now.Before(a.Until) })
	slices.SortFunc(mine, func(a, b Asked) int { return cmp.Or(a.EndsAt.Compare(b.EndsAt), a.Began.Compare(b.Began)) })
	steps := 0
	for _, a := range mine {
		if a.Became == AskReported && now.Before(a.EndsAt.Add(ReportedFor)) {
			at, reported = a.EndsAt.Add(ReportedFor), true
		}
		if a.Became == AskAllowed {
			steps = 0
			continue
		}
		steps += weight[a.Became]
	}
	if reported || steps == 0 {
		return at, reported
	}
	wait := min(time.Minute<<min(steps-1, 12), maxCoolDown)
	return mine[len(mine)-1].EndsAt.Add(wait), false
}

// Room says when a person can be asked next, whoever asks: the zero time for at once.
func Room(all []Asked, now time.Time) time.Time {
	var began []time.Time
	for _, a := range all {
		if a.Became != AskAllowed && now.Before(a.Began.Add(AskedWithin)) {
			began = append(began, a.Began)
		}
	}
	if len(began) < MaxAsked {
		return time.Time{}
	}
	slices.SortFunc(began, time.Time.Compare)
	return began[len(began)-MaxAsked].Add(AskedWithin)
}
