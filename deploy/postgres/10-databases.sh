#!/bin/sh
# Run by the postgres image when its data folder is empty: one role and one database per service.
set -eu
for service in enrollment assessment reporting notifications; do
    variable=$(echo "$service" | tr '[:lower:]' '[:upper:]')_PASSWORD
    password=$(printenv "$variable")
    # Names come from the list above and passwords are hexadecimal, so nothing needs quoting.
    psql --set ON_ERROR_STOP=1 --username "$POSTGRES_USER" --dbname postgres <<-SQL
		CREATE ROLE $service LOGIN PASSWORD '$password';
		CREATE DATABASE $service OWNER $service ENCODING 'UTF8' LOCALE 'C.UTF-8' TEMPLATE template0;
		REVOKE CONNECT ON DATABASE $service FROM PUBLIC;
	SQL
done
