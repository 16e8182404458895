-- Forty tables of a field force and 75 references among them: trees, cycles, join tables, enums.

create type employee_state as enum ('applied', 'active', 'on_leave', 'left');
create type visit_kind as enum ('call', 'stock', 'complaint');
create type approval as enum ('asked', 'granted', 'refused');
create type order_state as enum ('draft', 'sent', 'delivered', 'returned');
create table team (
  id int primary key,
  name text not null default 'north',
  lead int,
  parent int references team
);
create table grade (
  id int primary key,
  name text not null default 'junior',
  rank int not null default 1 check (rank > 0)
);
create table territory (
  id int primary key,
  name text not null default 'district',
  area polygon,
  parent int references territory
);
create table employee (
  id int primary key,
  name text not null default 'Mary',
  email text not null default 'mary@example.com' unique,
  state employee_state not null default 'active',
  manager int references employee,
  team int not null references team deferrable initially deferred,
  grade int not null references grade,
  home int references territory
);
create table employee_territory (
  id int primary key,
  since date not null default current_date,
  employee int not null references employee on delete cascade,
  territory int not null references territory on delete cascade
);
create table leave_request (
  id int primary key,
  during daterange not null default '[2026-01-01,2026-01-05)',
  approval approval not null default 'asked',
  employee int not null references employee on delete cascade,
  decided_by int references employee
);
create table hospital_chain (
  id int primary key,
  name text not null default 'Care',
  parent int references hospital_chain
);
create table hospital (
  id int primary key,
  name text not null default 'City',
  beds int check (beds >= 0),
  chain int references hospital_chain,
  territory int not null references territory
);
create table department (
  id int primary key,
  name text not null default 'Surgery',
  hospital int not null references hospital on delete cascade,
  head int
);
create table speciality (
  id int primary key,
  name text not null default 'Heart',
  parent int references speciality
);
create table doctor (
  id int primary key,
  name text not null default 'Dr. Who',
  likes text[] not null default '{}',
  speciality int not null references speciality,
  department int references department deferrable initially deferred
);
create table doctor_hospital (
  id int primary key,
  hours jsonb not null default '{}',
  doctor int not null references doctor on delete cascade,
  hospital int not null references hospital on delete cascade
);
create table chemist (
  id int primary key,
  name text not null default 'Corner',
  licence text not null default 'L-1' unique,
  territory int not null references territory
);
create table drug_class (
  id int primary key,
  name text not null default 'Pain',
  parent int references drug_class
);
create table drug (
  id int primary key,
  name text not null default 'Aspirin',
  price numeric(12,2) not null default 1.5,
  "class" int not null references drug_class,
  replaces int references drug
);
create table drug_interaction (
  id int primary key,
  note text,
  one int not null references drug on delete cascade,
  "other" int not null references drug on delete cascade
);
create table warehouse (
  id int primary key,
  name text not null default 'Main',
  territory int not null references territory,
  keeper int references employee
);
create table stock (
  id int primary key,
  amount int not null default 0,
  warehouse int not null references warehouse,
  drug int not null references drug
);
create table price_list (
  id int primary key,
  valid daterange not null default '[2026-01-01,)',
  chain int references hospital_chain
);
create table price (
  id int primary key,
  amount numeric(12,2) not null default 1,
  "list" int not null references price_list on delete cascade,
  drug int not null references drug
);
create table customer_order (
  id int primary key,
  state order_state not null default 'draft',
  made_at timestamptz not null default now(),
  chemist int references chemist,
  hospital int references hospital,
  taken_by int not null references employee,
  last_item int
);
create table order_item (
  id int primary key,
  amount int not null default 1,
  customer_order int not null references customer_order on delete cascade deferrable initially deferred,
  drug int not null references drug,
  price int references price
);
create table delivery (
  id int primary key,
  sent_at timestamptz,
  customer_order int not null references customer_order,
  warehouse int not null references warehouse,
  carried_by int references employee
);
create table return_claim (
  id int primary key,
  reason text,
  approval approval not null default 'asked',
  order_item int not null references order_item,
  decided_by int references employee
);
create table visit_plan (
  id int primary key,
  week date not null default '2026-11-30',
  employee int not null references employee,
  approved_by int references employee
);
create table visit (
  id int primary key,
  kind visit_kind not null default 'call',
  at timestamptz not null default now(),
  made_by int not null references employee,
  plan int references visit_plan,
  doctor int references doctor,
  chemist int references chemist
);
create table check_in (
  id int primary key,
  place point not null default '(1,2)',
  at timestamptz not null default now(),
  visit int not null references visit on delete cascade
);
create table call_report (
  id int primary key,
  text text not null default '',
  visit int not null references visit on delete cascade,
  written_by int not null references employee
);
create table call_report_drug (
  id int primary key,
  samples int not null default 0,
  report int not null references call_report on delete cascade,
  drug int not null references drug
);
create table task (
  id int primary key,
  title text not null default 'Call back',
  due date,
  owner int not null references employee,
  parent int references task,
  visit int references visit,
  about int references doctor
);
create table expense_type (
  id int primary key,
  name text not null default 'Fuel',
  parent int references expense_type
);
create table expense_claim (
  id int primary key,
  approval approval not null default 'asked',
  employee int not null references employee
);
create table expense (
  id int primary key,
  amount numeric(12,2) not null default 1,
  receipt bytea,
  claim int not null references expense_claim on delete cascade,
  "type" int not null references expense_type
);
create table expense_approval (
  id int primary key,
  decision approval not null default 'granted',
  claim int not null references expense_claim on delete cascade,
  "by" int not null references employee
);
create table gift (
  id int primary key,
  name text not null default 'Pen',
  for_class int references drug_class
);
create table gift_inventory (
  id int primary key,
  amount int not null default 0,
  gift int not null references gift,
  employee int not null references employee
);
create table gift_given (
  id int primary key,
  amount int not null default 1,
  inventory int not null references gift_inventory,
  report int references call_report
);
create table audit_form (
  id int primary key,
  questions jsonb not null default '[]',
  previous int references audit_form
);
create table audit_answer (
  id int primary key,
  answers jsonb not null default '{}',
  form int not null references audit_form
);
create table audit_log (
  id int primary key,
  what text not null default '',
  at timestamptz not null default now(),
  who int references employee
);
alter table team add foreign key (lead) references employee deferrable initially deferred;
alter table department add foreign key (head) references doctor deferrable initially deferred;
alter table customer_order add foreign key (last_item) references order_item deferrable initially deferred;
create index on visit (at desc);
create index on task (owner, due) where due is not null;
create unique index on stock (warehouse, drug);
