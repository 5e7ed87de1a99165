package jobs

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"log/slog"
	"time"
)

// Role is what a user may do.
type Role string

// Admins may also invite and remove users.
const (
	RoleAdmin  Role = "admin"
	RoleMember Role = "member"
)

// User is someone who can sign in.
type User struct {
	ID         int64
	Email      string
	Role       Role
	CreatedAt  time.Time
	LastSeenAt time.Time // zero for someone who never signed in, or long ago; only lists have it
}

// Admin tells whether the user may do what admins may.
func (u User) Admin() bool { return u.Role == RoleAdmin }

// Session is a browser in which a user is signed in.
type Session struct {
	ID         int64
	User       User
	CreatedAt  time.Time
	LastSeenAt time.Time // at most a minute old
	Address    string
	Agent      string // what the browser says of itself
}

// Client is the browser behind a request.
type Client struct{ Address, Agent string }

// LinkKind is what a one-time link is good for.
type LinkKind string

// The kinds of one-time links.
const (
	LinkSetup  LinkKind = "setup"  // makes the first user, an admin
	LinkInvite LinkKind = "invite" // makes the user it was made for
	LinkSignIn LinkKind = "signin" // signs a user in
	LinkReset  LinkKind = "reset"  // gives a user a new password
)

// Link is a one-time link, without its token.
type Link struct {
	ID        int64
	Kind      LinkKind
	Email     string // of the user it is for; empty for LinkSetup
	Role      Role   // of the user it makes
	CreatedAt time.Time
	ExpiresAt time.Time
}

// Token is the secret of a session or of a one-time link. The database has only its hash; the text itself is
// string(token), and appears nowhere by accident.
type Token string

// NewToken makes a token that nobody guesses.
func NewToken() Token {
	var b [32]byte
	_, _ = rand.Read(b[:]) // never fails
	return Token(base64.RawURLEncoding.EncodeToString(b[:]))
}

// Hash returns what the database keeps of the token.
func (t Token) Hash() []byte {
	sum := sha256.Sum256([]byte(t))
	return sum[:]
}

// String hides the token.
func (Token) String() string { return "[hidden]" }

// GoString hides the token.
func (Token) GoString() string { return "[hidden]" }

// LogValue hides the token.
func (Token) LogValue() slog.Value { return slog.StringValue("[hidden]") }

// MarshalJSON hides the token.
func (Token) MarshalJSON() ([]byte, error) { return []byte(`"[hidden]"`), nil }
