SELECT current_setting('server_version_num')::int                       AS version_num,
       current_setting('server_version')                                AS version,
       pg_encoding_to_char(d.encoding)                                  AS encoding,
       d.datname::text                                                  AS database,
       d.oid::bigint                                                    AS database_oid,
       (SELECT system_identifier::text FROM pg_control_system())        AS system_identifier,
       pg_is_in_recovery()                                              AS in_recovery,
       current_user::text                                               AS role,
       r.rolsuper                                                       AS superuser,
       has_database_privilege(d.oid, 'CREATE')                          AS can_create,
       coalesce((SELECT 'lz4' = ANY (enumvals) FROM pg_settings
                 WHERE name = 'default_toast_compression'), false)      AS lz4
FROM pg_database d, pg_roles r
WHERE d.datname = current_database() AND r.rolname = current_user
