package db

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"github.com/jackc/pgx/v5"
)

// Key is the secret under which connection URLs are kept. The zero Key is none: a Store that was opened with it neither
// saves a URL nor returns one.
type Key [32]byte

// ErrWrongKey is the error of Open for a key that is not the installation's.
var ErrWrongKey = errors.New("the key is not the one that the saved databases were sealed with: " +
	"give CALCO_KEY, or the file key in the data folder, as it was when they were saved")

// ParseKey reads a key as CALCO_KEY has it. The error does not quote it.
func ParseKey(text string) (Key, error) {
	b, err := base64.StdEncoding.DecodeString(strings.TrimSpace(text))
	if err != nil || len(b) != len(Key{}) || Key(b) == (Key{}) {
		return Key{}, errors.New("the key must be 32 random bytes in base64: make one with openssl rand -base64 32")
	}
	return Key(b), nil
}

// KeyFile reads the key in a file, which is made with a new key if it is not there. A file that others can read is
// refused. Several processes may call it at once, and get one key.
func KeyFile(path string) (Key, error) {
	key, err := readKey(path)
	if errors.Is(err, fs.ErrNotExist) {
		if err := makeKey(path); err != nil {
			return Key{}, fmt.Errorf("make the key file: %w", err)
		}
		key, err = readKey(path)
	}
	if err != nil {
		return Key{}, fmt.Errorf("read the key file %s: %w", path, err)
	}
	return key, nil
}

func readKey(path string) (Key, error) {
	f, err := os.Open(path)
	if err != nil {
		return Key{}, err
	}
	defer f.Close() //nolint:errcheck // it was only read
	info, err := f.Stat()
	if err != nil {
		return Key{}, err
	}
	if info.Mode().Perm()&0o077 != 0 {
		return Key{}, fmt.Errorf("others than its owner may read or write it: run chmod 600 %s", path)
	}
	text := make([]byte, 256)
	n, err := f.Read(text)
	if err != nil {
		return Key{}, err
	}
	return ParseKey(string(text[:n]))
}

// makeKey writes the whole file before it has its name, which it takes only if nobody else has: a crash leaves no half
// of a key, and of two processes one wins.
func makeKey(path string) (err error) {
	var key Key
	_, _ = rand.Read(key[:])                              // never fails
	f, err := os.CreateTemp(filepath.Dir(path), ".key-*") // with mode 0600
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.Remove(f.Name())) }()
	_, err = fmt.Fprintln(f, base64.StdEncoding.EncodeToString(key[:]))
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Link(f.Name(), path); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return nil
}

// String hides the key.
func (Key) String() string { return "[hidden]" }

// GoString hides the key.
func (Key) GoString() string { return "[hidden]" }

// LogValue hides the key.
func (Key) LogValue() slog.Value { return slog.StringValue("[hidden]") }

// MarshalJSON hides the key.
func (Key) MarshalJSON() ([]byte, error) { return []byte(`"[hidden]"`), nil }

var errNoKey = errors.New("the state database was opened without its key")

// aead is AES-256-GCM, which puts a random nonce in front of what it seals.
func (k Key) aead() (cipher.AEAD, error) {
	if k == (Key{}) {
		return nil, errNoKey
	}
	block, err := aes.NewCipher(k[:])
	if err != nil {
		return nil, err
	}
	return cipher.NewGCMWithRandomNonce(block)
}

// seal encrypts a text for one place, without which it cannot be opened.
func (k Key) seal(place, text string) ([]byte, error) {
	aead, err := k.aead()
	if err != nil {
		return nil, err
	}
	return aead.Seal(nil, nil, []byte(text), []byte(place)), nil
}

func (k Key) open(place string, sealed []byte) (string, error) {
	aead, err := k.aead()
	if err != nil {
		return "", err
	}
	text, err := aead.Open(nil, nil, sealed, []byte(place))
	if err != nil {
		return "", fmt.Errorf("open what was sealed for the %s: %w", place, err)
	}
	return string(text), nil
}

// checkKey tells whether the key is the installation's, which it becomes if there is none yet.
func (s *Store) checkKey(ctx context.Context) error {
	const place, text = "key check", "calco"
	return s.inTx(ctx, func(tx pgx.Tx) error {
		var sealed []byte
		if err := tx.QueryRow(ctx, `SELECT key_check FROM installation FOR UPDATE`).Scan(&sealed); err != nil {
			return fmt.Errorf("read the check of the key: %w", err)
		}
		if sealed != nil {
			if opened, err := s.key.open(place, sealed); err != nil || opened != text {
				return ErrWrongKey
			}
			return nil
		}
		sealed, err := s.key.seal(place, text)
		if err != nil {
			return err
		}
		_, err = tx.Exec(ctx, `UPDATE installation SET key_check = $1`, sealed)
		return err
	})
}
