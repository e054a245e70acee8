"""Makes the sessions of an IMAP listener, and says which function answers which event of the engine."""

from posthouse.imap.commands import (
    acl,
    append,
    auth,
    copy,
    fetch,
    mailboxes,
    metadata,
    multisearch,
    notify,
    quota,
    search,
    sort,
    store,
    urlauth,
)
from posthouse.imap.commands import any as common
from posthouse.imap.commands import list as listing
from posthouse.net.connection import Connection
from posthouse.servers.imap import acl as on_acl
from posthouse.servers.imap import append as on_append
from posthouse.servers.imap import auth as on_auth
from posthouse.servers.imap import copy as on_copy
from posthouse.servers.imap import fetch as on_fetch
from posthouse.servers.imap import labels as on_labels
from posthouse.servers.imap import list as on_list
from posthouse.servers.imap import mailboxes as on_mailboxes
from posthouse.servers.imap import metadata as on_metadata
from posthouse.servers.imap import multisearch as on_multisearch
from posthouse.servers.imap import notify as on_notify
from posthouse.servers.imap import quota as on_quota
from posthouse.servers.imap import search as on_search
from posthouse.servers.imap import select as on_select
from posthouse.servers.imap import sort as on_sort
from posthouse.servers.imap import store as on_store
from posthouse.servers.imap import urlauth as on_urlauth
from posthouse.servers.imap.session import Handlers, ImapSession
from posthouse.servers.imap.shared import Shared

HANDLERS: Handlers = {
    common.Noop: on_select.noop,
    common.Enable: on_select.enabled,
    common.Unauthenticate: on_auth.unauthenticate,
    common.Id: on_auth.identify,
    auth.StartTls: on_auth.starttls,
    auth.Login: on_auth.login,
    auth.Authenticate: on_auth.authenticate,
    auth.AuthResponse: on_auth.response,
    mailboxes.Select: on_select.select,
    mailboxes.Close: on_select.close,
    mailboxes.Expunge: on_select.expunge,
    mailboxes.Idle: on_select.idle,
    mailboxes.Done: on_select.done,
    mailboxes.Create: on_mailboxes.create,
    mailboxes.Delete: on_mailboxes.delete,
    mailboxes.Rename: on_mailboxes.rename,
    mailboxes.Subscribe: on_mailboxes.subscribe,
    mailboxes.Status: on_mailboxes.status,
    mailboxes.Namespace: on_mailboxes.namespace,
    listing.ListMailboxes: on_list.list_mailboxes,
    listing.Lsub: on_list.lsub,
    acl.SetAcl: on_acl.set_acl,
    acl.GetAcl: on_acl.get_acl,
    acl.ListRights: on_acl.list_rights,
    acl.MyRights: on_acl.my_rights,
    metadata.GetMetadata: on_metadata.get_metadata,
    metadata.SetMetadata: on_metadata.set_metadata,
    notify.Notify: on_notify.notify,
    notify.BadEvent: on_notify.bad_event,
    quota.GetQuota: on_quota.get_quota,
    quota.GetQuotaRoot: on_quota.get_quota_root,
    urlauth.GenUrlAuth: on_urlauth.gen_url_auth,
    urlauth.UrlFetch: on_urlauth.url_fetch,
    urlauth.ResetKey: on_urlauth.reset_key,
    append.Append: on_append.begin,
    append.AppendData: on_append.data,
    append.AppendEnd: on_append.end,
    append.AppendAborted: on_append.aborted,
    common.Flush: on_append.flush,
    common.Turn: on_select.turn,
    search.Search: on_search.search,
    sort.Sort: on_sort.sort,
    sort.Thread: on_sort.thread,
    multisearch.Esearch: on_multisearch.esearch,
    multisearch.CancelUpdate: on_multisearch.cancel_update,
    fetch.Fetch: on_fetch.fetch,
    store.Store: on_store.store,
    store.StoreLabels: on_labels.store,
    copy.Copy: on_copy.copy,
}


class ImapService(Shared):
    """One listener's: call it with a connection."""

    def __call__(self, connection: Connection) -> ImapSession:
        return ImapSession(self, connection, HANDLERS)
