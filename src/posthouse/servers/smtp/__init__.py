"""SMTP and LMTP: the decisions behind the engine. `SmtpService` is what the connections of one listener share."""

from posthouse.servers.smtp.service import SmtpService

__all__ = ["SmtpService"]
