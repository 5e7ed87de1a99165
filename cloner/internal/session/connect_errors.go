package session

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"calco/cloner/dsn"
	"calco/cloner/report"
)

// ConnectReason turns a failed connection into a sentence. The second result is the
// error to return when the clone itself was told to stop.
func ConnectReason(ctx context.Context, side report.Side, u dsn.URL, err error) (*report.Reason, error) {
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	r := report.Reason{Side: side}
	info, perr := dsn.Parse(string(u))
	if perr != nil {
		return nil, perr
	}
	at := info.Address()
	if mode := info["sslmode"]; mode == "" || mode == "prefer" || mode == "allow" {
		err = withoutRefusedTLS(err)
	}
	if pg, ok := errors.AsType[*pgconn.PgError](err); ok {
		return ServerReason(r, u, info, pg), nil
	}
	// Errors are looked for by what the reader can do about them; the first that fits.
	var forbidden *dsn.ForbiddenError
	var dns *net.DNSError
	var timeout net.Error
	switch {
	case errors.Is(err, dsn.ErrSettings):
		return urlReason(side, err), nil
	case errors.As(err, &forbidden):
		return forbiddenReason(side, forbidden), nil
	case isTLSError(err):
		r.Code = report.ReasonTLS
		r.Text = report.Said(fmt.Sprintf("No encrypted connection to the %s at %s can be made: %v.", side, at, tlsCause(err)))
		r.Hint = report.Said("Check sslmode and sslrootcert in the connection URL: sslmode=require encrypts without checking the certificate, sslmode=disable does not encrypt.")
	case errors.As(err, &dns):
		r.Code = report.ReasonHost
		r.Text = report.Said(fmt.Sprintf("The host of the %s, %s, is not known.", side, dns.Name))
		r.Hint = report.Said("Check the spelling of the host in the connection URL.")
	case errors.Is(err, ErrAnswerSize):
		r.Code = report.ReasonHost
		r.Text = report.Said(fmt.Sprintf("The %s at %s does not answer as PostgreSQL does: %v.", side, at, ErrAnswerSize))
		r.Hint = report.Said("Check host and port in the connection URL.")
	case errors.As(err, &timeout) && timeout.Timeout():
		r.Code = report.ReasonHost
		r.Text = report.Said(fmt.Sprintf("The %s at %s did not answer in time.", side, at))
		r.Hint = report.Said("Check host, port and firewall: the server must accept connections from where Calco runs.")
	default:
		r.Code = report.ReasonHost
		r.Text = report.Said(fmt.Sprintf("No PostgreSQL server answers for the %s at %s.", side, at))
		r.Hint = report.Said("Check host and port in the connection URL, and that the server is running.")
	}
	return &r, nil
}

// forbiddenReason is for a host that nobody has asked anything, since saved databases may not lead there.
func forbiddenReason(side report.Side, err *dsn.ForbiddenError) *report.Reason {
	r := report.NewReason(report.ReasonHostForbidden, side, "reason.host_forbidden")
	return &r
}

// urlReason is for a URL that leads nowhere by itself.
func urlReason(side report.Side, err error) *report.Reason {
	return &report.Reason{
		Code: report.ReasonURL, Side: side, Text: report.Said(fmt.Sprintf("The URL of the %s cannot be used: %v.", side, err)),
		Hint: report.Said("Write it as postgres://user:password@host:5432/database."),
	}
}

// ServerReason is for a server that answered, and said no.
func ServerReason(r report.Reason, u dsn.URL, info dsn.Conninfo, pg *pgconn.PgError) *report.Reason {
	switch {
	case pg.Code == "28P01":
		r.Code = report.ReasonCredentials
		r.Text = report.Said(fmt.Sprintf("The %s refused the password of %s.", r.Side, u))
		r.Hint = report.Said("Check user and password in the connection URL; percent-encode special characters.")
	case pg.Code == "28000" && strings.Contains(pg.Message, "no encryption"):
		r.Code = report.ReasonTLS
		r.Text = report.Said(fmt.Sprintf("The %s accepts only encrypted connections for %s.", r.Side, u))
		r.Hint = report.Said("Add sslmode=require to the connection URL.")
	case pg.Code == "28000", pg.Code == NoPrivilege:
		r.Code = report.ReasonCredentials
		r.Text = report.Said(fmt.Sprintf("The %s does not let %s in: %s.", r.Side, u, pg.Message))
		r.Hint = report.Said("Check the user in the connection URL and the server's pg_hba.conf.")
	case pg.Code == "3D000":
		r.Code = report.ReasonNoDatabase
		r.Text = report.Said(fmt.Sprintf("The %s has no database %s.", r.Side, info["dbname"]))
		if r.Side == report.EitherSide {
			r.Text = report.Said(fmt.Sprintf("The server at %s has no database %s.", info.Address(), info["dbname"]))
		}
		r.Hint = report.Said("Create it, or correct the connection URL. Calco fills a database, it does not create one.")
	default: // starting up, shutting down, too many connections
		r.Code = report.ReasonNoConnection
		r.Text = report.Said(fmt.Sprintf("The %s at %s takes no connection now: %s.", r.Side, info.Address(), pg.Message))
		r.Hint = report.Said("Try again in a moment.")
		if pg.Code == TooManyConnections {
			r.Hint = report.Said("Close other connections or raise max_connections.")
		}
	}
	return &r
}

// withoutRefusedTLS leaves out of the errors of several tries those of a server that has no TLS: where it is only
// preferred, the try without it is what failed.
func withoutRefusedTLS(err error) error {
	var tries interface{ Unwrap() []error }
	if !errors.As(err, &tries) {
		return err
	}
	others := slices.DeleteFunc(slices.Clone(tries.Unwrap()), isTLSRefused)
	if len(others) == 0 {
		return err
	}
	return errors.Join(others...)
}

func isTLSRefused(err error) bool {
	return strings.Contains(err.Error(), "server refused TLS connection")
}

func isTLSError(err error) bool {
	var unknown x509.UnknownAuthorityError
	var host x509.HostnameError
	var invalid x509.CertificateInvalidError
	var verify *tls.CertificateVerificationError
	var record tls.RecordHeaderError
	var alert tls.AlertError
	return errors.As(err, &unknown) || errors.As(err, &host) || errors.As(err, &invalid) ||
		errors.As(err, &verify) || errors.As(err, &record) || errors.As(err, &alert) ||
		isTLSRefused(err)
}

// tlsCause is the innermost error, which says what is wrong with the certificate;
// the outer ones repeat host, user and database.
func tlsCause(err error) error {
	for {
		inner := errors.Unwrap(err)
		if joined, ok := err.(interface{ Unwrap() []error }); ok && len(joined.Unwrap()) > 0 {
			inner = joined.Unwrap()[0]
		}
		if inner == nil {
			return err
		}
		err = inner
	}
}
